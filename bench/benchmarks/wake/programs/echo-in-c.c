/* echo-in-c SOCKET: notifies the guest each time the guest notifies it. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include "../../../rig/guest.h"

static int notified, event;

static void *echo(void *argument) {
  eventfd_t count;
  for (;;) {
    if (eventfd_read(event, &count) || eventfd_write(notified, 1)) err(1, "echo");
  }
  return argument;
}

int main(int argc, char **argv) {
  pthread_t thread;
  if (argc != 2) errx(2, "usage: echo-in-c SOCKET");
  struct guest guest = guest_connect(argv[1]);
  event = eventfd(0, EFD_CLOEXEC);
  notified = guest_bind(&guest, port_of(0), event);
  if (pthread_create(&thread, NULL, echo, NULL)) err(1, "start a thread");
  puts("ready");
  fflush(stdout);
  while (getchar() != EOF);
  _exit(0);
}
