/* ping SOCKET: a guest that notifies its backend and waits for a notification, over and over. Each
 * line on standard input is a number of seconds. The answer is the number of round trips per
 * second. */
#define _GNU_SOURCE
#include "../../../rig/served-guest.h"

static void prepare(void) {}

static void answer(char *line) {
  double begin = seconds_now(), seconds = atof(line), now;
  uint64_t trips = 0;
  do {
    kick(port_of(0));
    wait_for_event(port_of(0));
    trips++;
    now = seconds_now();
  } while (now < begin + seconds);
  printf("%f\n", (double)trips / (now - begin));
}

int main(int argc, char **argv) {
  if (argc != 2) errx(2, "usage: ping SOCKET");
  serve_guest(argv[1], 1, prepare, answer);
}
