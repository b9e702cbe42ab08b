/* pipelined SOCKET PATH DEPTH: reads a node with DEPTH requests in flight and ignores the values.
 * That is about the most that any client can get from xenstored. Each line on standard input is a
 * number of seconds. The answer is the number of reads per second. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <xen/io/xs_wire.h>

enum { DEPTH_MAX = 256 };

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static char requests[DEPTH_MAX * (sizeof(struct xsd_sockmsg) + XENSTORE_ABS_PATH_MAX + 1)];
static char replies[DEPTH_MAX * (sizeof(struct xsd_sockmsg) + XENSTORE_PAYLOAD_MAX)];

/* Removes whole replies from the buffer; returns how many. */
static int take(size_t *held)
{
    struct xsd_sockmsg reply;
    size_t at = 0;
    int count = 0;

    while (*held - at >= sizeof reply) {
        memcpy(&reply, replies + at, sizeof reply);
        if (*held - at < sizeof reply + reply.len)
            break;
        if (reply.type != XS_READ) {
            fprintf(stderr, "xenstored answered %s\n", replies + at + sizeof reply);
            exit(1);
        }
        at += sizeof reply + reply.len;
        count++;
    }
    *held -= at;
    memmove(replies, replies + at, *held);
    return count;
}

/* Sends `count` requests of `size` bytes. All requests are equal. */
static void send_requests(int fd, int count, size_t size)
{
    if (count > 0 && write(fd, requests, count * size) != (ssize_t)(count * size))
        fail("write");
}

static double rate(int fd, int depth, size_t size, double seconds)
{
    double begin = now(), end = begin + seconds;
    int in_flight = depth;
    size_t held = 0;
    long reads = 0;

    send_requests(fd, depth, size);
    while (in_flight > 0) {
        ssize_t count = read(fd, replies + held, sizeof replies - held);
        int taken;

        if (count <= 0)
            fail("read");
        held += count;
        taken = take(&held);
        reads += taken;
        if (now() < end)
            send_requests(fd, taken, size);
        else
            in_flight -= taken;
    }
    return reads / (now() - begin);
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    int depth = argc == 4 ? atoi(argv[3]) : 0;
    char request[64];
    struct xsd_sockmsg header = { .type = XS_READ };
    size_t size;

    if (depth < 1 || depth > DEPTH_MAX || strlen(argv[2]) > XENSTORE_ABS_PATH_MAX)
        return 2;
    setlinebuf(stdout);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", argv[1]);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail(argv[1]);

    header.len = strlen(argv[2]) + 1;
    size = sizeof header + header.len;
    for (int i = 0; i < depth; i++) {
        memcpy(requests + i * size, &header, sizeof header);
        memcpy(requests + i * size + sizeof header, argv[2], header.len);
    }
    puts("ready");
    while (fgets(request, sizeof request, stdin))
        printf("{\"rate\": %f}\n", rate(fd, depth, size, atof(request)));
    return 0;
}
