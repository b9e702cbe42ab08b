/* peer SOCKET: the guest of the litmus test. In each round the guest and the backend act at the
 * same moment, twice:
 *
 *   guest sends a request                     backend sets its event and rechecks the ring
 *   guest sets its event and rechecks         backend publishes a response
 *
 * A wake-up is lost if the publisher isn't told to notify and the checker doesn't see the message:
 * both would sleep for ever. Each line on standard input is a number of rounds. The answer gives
 * the number of lost wake-ups of both kinds.
 *
 * The control page is the ring's first data page. It holds three words, each in its own cache line:
 * the step that the backend must take, the last step it took, and the result of that step. */
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

/* Tells the backend to take its next step, and delays for about as long as the backend needs to
 * react, sometimes less, sometimes more. */
static void begin_step(void) {
  __atomic_store_n(&control[STEP], ++step, __ATOMIC_SEQ_CST);
  for (volatile unsigned i = (unsigned)(random_of(&random_state) % DELAYS); i > 0; i--);
}

/* Waits until the backend has taken the step. Returns its result: whether to notify, or whether it
 * saw a request. */
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
