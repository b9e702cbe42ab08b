/*
 * Both ends of rings, by the macros of Xen's own ring.h. The memory is a file that c-peer.test.ts
 * shares with this program. It holds three rings, one after the other.
 *
 * Usage: ring-peer FILE PAGES INDEX, where SLOT, bytes per slot, is defined at compile time. One
 * command per line on stdin, one answer per line on stdout:
 *
 *   RING push TAG COUNT     frontend: put requests TAG.. and publish        -> 1 if to notify
 *   RING collect            frontend: take all responses, final check       -> 1 if more, tags
 *   RING take MAX           backend: take requests                          -> tags
 *   RING answer TAG COUNT   backend: put responses TAG.. and publish        -> 1 if to notify
 *   RING check              backend: final check                            -> 1 if more
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* From this version on, ring.h uses the barriers defined here, not the including program's mb(). */
#define __XEN_INTERFACE_VERSION__ 0x00030208
#define xen_mb() __sync_synchronize()
#define xen_rmb() __sync_synchronize()
#define xen_wmb() __sync_synchronize()
#include <xen/io/ring.h>

#define RINGS 3

struct message {
    uint8_t bytes[SLOT];
};
DEFINE_RING_TYPES(peer, struct message, struct message);

/* Byte of a message, as in ring-memory.ts: bytes 0..3 are the tag, the others depend on it. */
static uint8_t byte_of(uint32_t tag, unsigned int i)
{
    return i < 4 ? tag >> (8 * i) : tag * 31 + i * 7;
}

static void write_message(struct message *message, uint32_t tag)
{
    for (unsigned int i = 0; i < SLOT; i++)
        message->bytes[i] = byte_of(tag, i);
}

static void print_tag(const struct message *message)
{
    uint32_t tag;

    memcpy(&tag, message->bytes, sizeof(tag));
    for (unsigned int i = 0; i < SLOT; i++)
        if (message->bytes[i] != byte_of(tag, i)) {
            printf(" damaged");
            return;
        }
    printf(" %u", tag);
}

int main(int argc, char **argv)
{
    struct peer_front_ring front[RINGS];
    struct peer_back_ring back[RINGS];
    char line[80];

    if (argc != 4)
        return 2;
    int fd = open(argv[1], O_RDWR);
    size_t size = strtoul(argv[2], NULL, 10) * 4096;
    RING_IDX index = strtoul(argv[3], NULL, 10);
    uint8_t *memory = mmap(NULL, size * RINGS, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (fd < 0 || memory == MAP_FAILED)
        return 1;
    for (int i = 0; i < RINGS; i++) {
        struct peer_sring *sring = (struct peer_sring *)(memory + i * size);

        SHARED_RING_INIT(sring);
        sring->req_prod = sring->rsp_prod = index;
        sring->req_event = sring->rsp_event = index + 1;
        FRONT_RING_ATTACH(&front[i], sring, index, size);
        BACK_RING_ATTACH(&back[i], sring, index, size);
    }
    printf("%u\n", RING_SIZE(&back[0]));
    fflush(stdout);

    while (fgets(line, sizeof(line), stdin)) {
        unsigned int ring, tag = 0, count = 0;
        char command[16];
        int result;
        struct message message;

        if (sscanf(line, "%u %15s %u %u", &ring, command, &tag, &count) < 2 || ring >= RINGS)
            return 2;
        struct peer_front_ring *f = &front[ring];
        struct peer_back_ring *b = &back[ring];

        if (!strcmp(command, "push")) {
            while (count-- && !RING_FULL(f))
                write_message(RING_GET_REQUEST(f, f->req_prod_pvt++), tag++);
            RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(f, result);
            printf("%d", result);
        } else if (!strcmp(command, "collect")) {
            RING_IDX end = f->sring->rsp_prod;
            struct peer_front_ring before = *f;

            xen_rmb();
            f->rsp_cons = end;
            RING_FINAL_CHECK_FOR_RESPONSES(f, result);
            printf("%d", result);
            for (; before.rsp_cons != end; before.rsp_cons++) {
                RING_COPY_RESPONSE(&before, before.rsp_cons, &message);
                print_tag(&message);
            }
        } else if (!strcmp(command, "take")) {
            RING_IDX end = b->sring->req_prod;

            xen_rmb();
            for (; b->req_cons != end && tag; tag--) {
                RING_COPY_REQUEST(b, b->req_cons++, &message);
                print_tag(&message);
            }
        } else if (!strcmp(command, "answer")) {
            while (count-- && b->rsp_prod_pvt != b->req_cons)
                write_message(RING_GET_RESPONSE(b, b->rsp_prod_pvt++), tag++);
            RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(b, result);
            printf("%d", result);
        } else if (!strcmp(command, "check")) {
            RING_FINAL_CHECK_FOR_REQUESTS(b, result);
            printf("%d", !!result);
        } else {
            return 2;
        }
        printf("\n");
        fflush(stdout);
    }
    return 0;
}
