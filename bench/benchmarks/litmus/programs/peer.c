/*
 * peer SOCKET: the guest of the litmus test. In each round it acts at the very moment at which the backend does, twice:
 *
 *   it sends a request     while the backend arms its event and looks once more
 *   it arms its event and looks once more     while the backend publishes a response
 *
 * If whoever publishes isn't told to notify, and whoever looks doesn't see it either, both would sleep for ever: a lost
 * wake-up. Asked for a number of rounds, it tells how many of the two kinds there were.
 *
 * Words of the page behind the ring, each in a cache line of its own: the step that the backend is to take, the step
 * that it has taken, and what it found.
 */
#define _GNU_SOURCE
#include "../../../rig/served-guest.h"

enum { STEP = 0, TAKEN = 16, FOUND = 32, DELAYS = 128 };

static volatile uint32_t *control;
static blkif_front_ring_t ring;
static uint32_t step;
static uint64_t random_state = 88172645463325252;

static void prepare(void) {
  blkif_sring_t *shared = (blkif_sring_t *)page_of(gref_of(0, 0));
  SHARED_RING_INIT(shared);
  FRONT_RING_INIT(&ring, shared, PAGE);
  control = (volatile uint32_t *)page_of(gref_of(0, DATA_PAGES));
}

/* Has the backend begin, and waits about as long as that takes: sometimes less, sometimes more. */
static void begin_step(void) {
  __atomic_store_n(&control[STEP], ++step, __ATOMIC_SEQ_CST);
  for (volatile unsigned i = (unsigned)(random_of(&random_state) % DELAYS); i > 0; i--);
}

/* Whether the backend was told: to notify, or that there is more. */
static bool end_step(void) {
  while (__atomic_load_n(&control[TAKEN], __ATOMIC_ACQUIRE) != step) __builtin_ia32_pause();
  return control[FOUND];
}

static void answer(char *line) {
  uint64_t lost_requests = 0, lost_responses = 0;
  for (long rounds = atol(line); rounds > 0; rounds--) {
    int notify, more;
    *RING_GET_REQUEST(&ring, ring.req_prod_pvt++) = (blkif_request_t){ .operation = BLKIF_OP_READ, .nr_segments = 1 };
    begin_step();
    RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&ring, notify);
    lost_requests += !end_step() && !notify;
    begin_step();
    RING_FINAL_CHECK_FOR_RESPONSES(&ring, more);
    lost_responses += !end_step() && !more;
    ring.rsp_cons++;
  }
  printf("{\"requests\":%lu,\"responses\":%lu}\n", lost_requests, lost_responses);
}

int main(int argc, char **argv) {
  if (argc != 2) errx(2, "usage: peer SOCKET");
  serve_guest(argv[1], 1, prepare, answer);
}
