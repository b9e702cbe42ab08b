/* image SEGMENTS: the counterpart of ours.ts in C, with the macros of ring.h. It copies the
 * meaningful words of each request once, into a private image, and answers from that image. Each
 * line on standard input is a number of batches. The answer is the time per request in nanoseconds.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "../../../rig/xen.h"

enum { BATCH = 32, PAGE = 4096, WORDS = sizeof(union blkif_sring_entry) / 8, HEADER_WORDS = 3 };

static char template[PAGE];
static uint64_t image[BATCH * WORDS];

/* Processor time of this process: time taken by other processes doesn't count. */
static int64_t nanoseconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return now.tv_sec * 1000000000 + now.tv_nsec;
}

static __attribute__((noinline)) void fill(blkif_sring_t *shared) {
  memcpy(shared->ring, template, BATCH * sizeof *shared->ring);
  xen_wmb();
  shared->req_prod += BATCH;
}

static __attribute__((noinline)) void serve(blkif_back_ring_t *ring) {
  RING_IDX produced = ring->sring->req_prod;
  unsigned count = 0;
  int notify, more;
  xen_rmb();
  for (; ring->req_cons != produced; ring->req_cons++, count++) {
    const volatile uint64_t *from = (const volatile uint64_t *)RING_GET_REQUEST(ring, ring->req_cons);
    uint64_t *to = &image[count * WORDS];
    to[0] = from[0];
    to[1] = from[1];
    to[2] = from[2];
    unsigned segments = ((blkif_request_t *)to)->nr_segments;
    if (segments > BLKIF_MAX_SEGMENTS_PER_REQUEST) segments = BLKIF_MAX_SEGMENTS_PER_REQUEST;
    for (unsigned i = HEADER_WORDS; i < HEADER_WORDS + segments; i++) to[i] = from[i];
  }
  if (count != BATCH) errx(1, "the ring gave %u requests", count);
  for (unsigned i = 0; i < count; i++) {
    const blkif_request_t *request = (const blkif_request_t *)&image[i * WORDS];
    *RING_GET_RESPONSE(ring, ring->rsp_prod_pvt++) = (blkif_response_t){ .id = request->id, .operation = request->operation, .status = BLKIF_RSP_OKAY };
  }
  RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(ring, notify);
  RING_FINAL_CHECK_FOR_REQUESTS(ring, more);
  if (more) errx(1, "the ring holds more than was put into it");
  (void)notify;
}

int main(int argc, char **argv) {
  if (argc != 2) errx(2, "usage: image SEGMENTS");
  blkif_sring_t *filled = aligned_alloc(PAGE, PAGE), *served = aligned_alloc(PAGE, PAGE);
  blkif_back_ring_t ring;
  SHARED_RING_INIT(filled);
  SHARED_RING_INIT(served);
  BACK_RING_INIT(&ring, served, PAGE);
  for (unsigned i = 0; i < BATCH; i++) {
    ((blkif_request_t *)template)[i] = (blkif_request_t){ .operation = BLKIF_OP_READ, .nr_segments = (uint8_t)atoi(argv[1]), .id = i, .sector_number = i * 8 };
  }
  puts("ready");
  fflush(stdout);
  for (long batches; scanf("%ld", &batches) == 1; fflush(stdout)) {
    int64_t begin = nanoseconds_now();
    for (long i = 0; i < batches; i++) fill(filled);
    int64_t middle = nanoseconds_now();
    for (long i = 0; i < batches; i++) {
      fill(served);
      serve(&ring);
    }
    printf("%f\n", (double)(nanoseconds_now() - middle - (middle - begin)) / (double)(batches * BATCH));
  }
}
