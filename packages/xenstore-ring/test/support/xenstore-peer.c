/*
 * Both sides of xenstore pages. Follows struct xenstore_domain_interface of Xen's own xs_wire.h,
 * and docs/misc/xenstore-ring.txt. The pages are a file that c-xenstore-peer.test.ts shares with
 * this program. The two programs take turns, so no barrier is needed here.
 *
 * Usage: xenstore-peer FILE PAGES INDEX. One command per line on stdin, one answer per line on
 * stdout:
 *
 *   PAGE request TAG COUNT   domain: put bytes into the request ring      -> how many
 *   PAGE collect MAX         domain: take bytes from the reply ring       -> the bytes, in hex
 *   PAGE take MAX            xenstored: take bytes from the request ring  -> the bytes, in hex
 *   PAGE reply TAG COUNT     xenstored: put bytes into the reply ring     -> how many
 *   PAGE reconnect           domain: ask for a reset                      -> ok
 *   PAGE reset               xenstored: reset if asked to                 -> ok
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <xen/io/xs_wire.h>

struct pipe {
    char *buffer;
    XENSTORE_RING_IDX *cons, *prod;
};

static uint8_t byte_of(uint32_t tag, uint32_t i)
{
    return tag * 31 + i * 7;
}

static void put(struct pipe p, uint32_t tag, uint32_t count)
{
    uint32_t done = 0;

    while (done < count && *p.prod - *p.cons < XENSTORE_RING_SIZE) {
        p.buffer[MASK_XENSTORE_IDX(*p.prod)] = byte_of(tag, done++);
        ++*p.prod;
    }
    printf("%u", done);
}

static void take(struct pipe p, uint32_t max)
{
    for (; max && *p.cons != *p.prod; max--) {
        printf("%02x", (uint8_t)p.buffer[MASK_XENSTORE_IDX(*p.cons)]);
        ++*p.cons;
    }
}

int main(int argc, char **argv)
{
    struct xenstore_domain_interface *intf;
    char line[80];

    if (argc != 4)
        return 2;
    int fd = open(argv[1], O_RDWR);
    unsigned int pages = strtoul(argv[2], NULL, 10);
    XENSTORE_RING_IDX index = strtoul(argv[3], NULL, 10);
    uint8_t *memory = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (fd < 0 || memory == MAP_FAILED)
        return 1;
    for (unsigned int i = 0; i < pages; i++) {
        intf = (void *)(memory + i * 4096);
        intf->req_cons = intf->req_prod = intf->rsp_cons = intf->rsp_prod = index;
    }
    printf("ready\n");
    fflush(stdout);

    while (fgets(line, sizeof(line), stdin)) {
        unsigned int page, a = 0, b = 0;
        char command[16];

        if (sscanf(line, "%u %15s %u %u", &page, command, &a, &b) < 2 || page >= pages)
            return 2;
        intf = (void *)(memory + page * 4096);
        struct pipe requests = { intf->req, &intf->req_cons, &intf->req_prod };
        struct pipe replies = { intf->rsp, &intf->rsp_cons, &intf->rsp_prod };

        if (!strcmp(command, "request")) {
            put(requests, a, b);
        } else if (!strcmp(command, "collect")) {
            take(replies, a);
        } else if (!strcmp(command, "take")) {
            take(requests, a);
        } else if (!strcmp(command, "reply")) {
            put(replies, a, b);
        } else if (!strcmp(command, "reconnect")) {
            intf->connection = XENSTORE_RECONNECT;
            printf("ok");
        } else if (!strcmp(command, "reset")) {
            if (intf->connection == XENSTORE_RECONNECT) {
                intf->req_cons = intf->req_prod = intf->rsp_cons = intf->rsp_prod = 0;
                intf->error = XENSTORE_ERROR_NONE;
                intf->connection = XENSTORE_CONNECTED;
            }
            printf("ok");
        } else {
            return 2;
        }
        printf("\n");
        fflush(stdout);
    }
    return 0;
}
