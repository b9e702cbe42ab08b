/* The guest's side of guest.h: its memory, its ports, and a loop that serves a backend and standard
 * input. */
#ifndef SERVED_GUEST_H
#define SERVED_GUEST_H
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>
#include "guest.h"

static char *memory;
/* Eventfds by port: to notify the backend, and to wait on. */
static int kick_fds[PORTS];
static int wake_fds[PORTS];

static inline char *page_of(uint32_t gref) {
  return memory + (size_t)gref * PAGE;
}

static inline void kick(uint32_t port) {
  __atomic_store_n(&memory[port], 1, __ATOMIC_SEQ_CST);
  if (eventfd_write(kick_fds[port], 1)) err(1, "notify port %u", port);
}

static inline void wait_for_event(uint32_t port) {
  eventfd_t count;
  if (eventfd_read(wake_fds[port], &count)) err(1, "wait for port %u", port);
}

static inline double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static inline uint64_t random_of(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  return *state ^= *state << 17;
}

/* Creates the guest's memory and calls `prepare` to fill it. Then accepts a backend, and answers
 * each line of standard input until its end. */
static inline void serve_guest(const char *path, unsigned rings, void (*prepare)(void), void (*answer)(char *line)) {
  size_t bytes = (size_t)gref_of(rings, 0) * PAGE;
  int memfd = memfd_create("guest", MFD_CLOEXEC);
  if (memfd < 0 || ftruncate(memfd, (off_t)bytes)) err(1, "make a guest's memory");
  memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
  if (memory == MAP_FAILED) err(1, "map a guest's memory");
  prepare();
  struct sockaddr_un address;
  int listener = guest_socket(path, &address);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1)) err(1, "listen on \"%s\"", path);
  puts("ready");
  fflush(stdout);
  enum { STDIN, LISTENER, BACKEND };
  struct pollfd ready[] = { { STDIN_FILENO, POLLIN, 0 }, { listener, POLLIN, 0 }, { -1, POLLIN, 0 } };
  for (;;) {
    if (poll(ready, 3, -1) < 0) err(1, "poll");
    if (ready[LISTENER].revents) {
      ready[BACKEND].fd = accept(listener, NULL, NULL);
      send_fd(ready[BACKEND].fd, bytes, memfd);
    }
    if (ready[BACKEND].revents) {
      uint64_t port;
      int fd = receive_fd(ready[BACKEND].fd, &port);
      if (fd < 0) {
        ready[BACKEND].fd = -1;
      } else {
        kick_fds[port] = fd;
        wake_fds[port] = eventfd(0, EFD_CLOEXEC);
        send_fd(ready[BACKEND].fd, port, wake_fds[port]);
      }
    }
    if (ready[STDIN].revents) {
      char line[128];
      /* A read returns one line: the sender waits for the answer. */
      ssize_t length = read(STDIN_FILENO, line, sizeof line - 1);
      if (length <= 0) return;
      line[length] = 0;
      answer(line);
      fflush(stdout);
    }
  }
}

#endif
