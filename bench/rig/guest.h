/*
 * A guest without Xen: its memory is a memfd, a grant reference the number of a page in it; an event
 * channel is a pair of eventfds. The guest listens on a unix socket, where a backend gets the memfd
 * and, for each port that it binds, the eventfd by which it notifies the guest in exchange for the one by
 * which it wants to be notified.
 */
#ifndef GUEST_H
#define GUEST_H
#include <err.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "xen.h"

enum {
  PAGE = 4096,
  SLOTS = 32,
  SEGMENTS_MAX = 256,
  /* Page 0 has a byte for each port: whether it is pending. Behind those: struct calls. */
  PORTS = 2048,
  /* What each ring has: the ring itself and, for each slot, a page of indirect segments and pages for data. */
  INDIRECT_PAGES = 1,
  DATA_PAGES = INDIRECT_PAGES + SLOTS,
  RING_PAGES = DATA_PAGES + SLOTS * SEGMENTS_MAX,
};

/* System calls on devices by the backend that has devices.c: on grants, and to notify and unmask ports. On Xen each is a hypercall, or several. */
struct calls {
  uint64_t grants, notifications, unmasks;
};

/* Rings are counted from 0. */
static inline uint32_t gref_of(unsigned ring, unsigned page) {
  return 1 + ring * RING_PAGES + page;
}

static inline uint32_t port_of(unsigned ring) {
  return 1 + ring;
}

/* Sends a number, and a descriptor with it. */
static inline void send_fd(int socket, uint64_t number, int fd) {
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof fd)];
  } control = { .header = { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd) } };
  struct iovec part = { &number, sizeof number };
  struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes };
  memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
  if (sendmsg(socket, &message, MSG_NOSIGNAL) != sizeof number) err(1, "send a descriptor");
}

/* Gives back the descriptor, or -1 when the other side has gone. */
static inline int receive_fd(int socket, uint64_t *number) {
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control;
  struct iovec part = { number, sizeof *number };
  struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes };
  int fd;
  if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != sizeof *number) return -1;
  memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
  return fd;
}

static inline int guest_socket(const char *path, struct sockaddr_un *address) {
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  *address = (struct sockaddr_un){ .sun_family = AF_UNIX };
  strncpy(address->sun_path, path, sizeof address->sun_path - 1);
  return fd;
}

/* The backend's side. */
struct guest {
  int socket;
  int memfd;
  char *memory;
};

static inline struct guest guest_connect(const char *path) {
  struct sockaddr_un address;
  struct guest guest = { .socket = guest_socket(path, &address) };
  uint64_t bytes;
  if (connect(guest.socket, (struct sockaddr *)&address, sizeof address)) err(1, "connect to guest \"%s\"", path);
  guest.memfd = receive_fd(guest.socket, &bytes);
  guest.memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, guest.memfd, 0);
  if (guest.memory == MAP_FAILED) err(1, "map the guest's memory");
  return guest;
}

/* Binds a port: `notified` is written to by the guest, the descriptor that is given back by the backend. */
static inline int guest_bind(const struct guest *guest, uint32_t port, int notified) {
  uint64_t number = port;
  send_fd(guest->socket, number, notified);
  return receive_fd(guest->socket, &number);
}

static inline struct calls *calls_of(char *memory) {
  return (struct calls *)(memory + PORTS);
}

static inline char *guest_page(const struct guest *guest, uint32_t gref) {
  return guest->memory + (size_t)gref * PAGE;
}

#endif
