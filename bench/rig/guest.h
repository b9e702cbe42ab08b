/* A guest without Xen. Its memory is a memfd, a grant reference is a page number in it, and an
 * event channel is a pair of eventfds. The guest listens on a unix socket, where a backend receives
 * the memfd. For each port the two exchange eventfds: the backend sends the one that it waits on,
 * and receives the one that notifies the guest. */
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
  /* Page 0 holds a byte for each port (whether it is pending), followed by struct calls. */
  PORTS = 2048,
  /* Pages of each ring: the ring itself, then for each slot a page of indirect segments and pages
   * for data. */
  INDIRECT_PAGES = 1,
  DATA_PAGES = INDIRECT_PAGES + SLOTS,
  RING_PAGES = DATA_PAGES + SLOTS * SEGMENTS_MAX,
};

/* Counters of the backend's system calls on devices.c: on grants, and to notify and unmask ports.
 * On Xen each is at least one hypercall. */
struct calls {
  uint64_t grants, notifications, unmasks;
};

/* Rings are numbered from 0, and so are a ring's pages. */
static inline uint32_t gref_of(unsigned ring, unsigned page) {
  return 1 + ring * RING_PAGES + page;
}

static inline uint32_t port_of(unsigned ring) {
  return 1 + ring;
}

/* Sends a number together with a descriptor. */
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

/* Receives a number and a descriptor. Returns the descriptor, or -1 when the other side has gone.
 */
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

/* The backend's view of a guest. */
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

/* Binds a port. The guest notifies the backend through `notified`, the backend notifies the guest
 * through the returned descriptor. */
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
