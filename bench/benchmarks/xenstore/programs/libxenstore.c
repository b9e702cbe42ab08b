/* libxenstore SOCKET PATH: reads a node through libxenstore, one request at a time, as C programs
 * do. Each line on standard input is a number of seconds. The answer is the number of reads per
 * second. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <xenstore.h>

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static double rate(struct xs_handle *xenstore, const char *path, double seconds)
{
    double begin = now(), end = begin + seconds;
    long reads = 0;

    while (now() < end) {
        unsigned length;
        char *value = xs_read(xenstore, XBT_NULL, path, &length);

        if (!value) {
            perror(path);
            exit(1);
        }
        free(value);
        reads++;
    }
    return reads / (now() - begin);
}

int main(int argc, char **argv)
{
    struct xs_handle *xenstore;
    char request[64];

    if (argc != 3 || setenv("XENSTORED_PATH", argv[1], 1) != 0)
        return 2;
    setlinebuf(stdout);
    xenstore = xs_open(0);
    if (!xenstore) {
        perror(argv[1]);
        return 1;
    }
    puts("ready");
    while (fgets(request, sizeof request, stdin))
        printf("{\"rate\": %f}\n", rate(xenstore, argv[2], atof(request)));
    xs_close(xenstore);
    return 0;
}
