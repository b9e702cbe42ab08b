/* A library to preload: Linux's /dev/xen/gntdev and /dev/xen/evtchn without Xen. The process's
 * calls on them act on the guest (guest.h) that listens at XENKIT_BENCH_GUEST. A grant copy is a
 * memcpy, and a mapping maps pages of the guest's memfd. A notification is a write to an eventfd,
 * and an event is a readable eventfd. Each system call of the program stays one system call, except
 * the write that unmasks ports. Eventfds need no unmasking, and the C backends here don't unmask
 * either. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include "guest.h"
#include <xen/sys/evtchn.h>
#include <xen/sys/gntdev.h>

enum { FDS = 1024, REFS = 1 << 16 };
enum kind { OTHER, GNTDEV, EVTCHN };

static enum kind kinds[FDS];
static struct guest guest;
/* By port: the descriptor that bound it, and the eventfd that notifies the guest. */
static int owners[PORTS];
static int notified[PORTS];
static uint32_t ports_end;
/* References passed to the map ioctl, for the mmap that follows: its offset is an index into this
 * array. */
static uint32_t refs[REFS];
static uint32_t refs_end;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int (*real_open)(const char *, int, ...);
static ssize_t (*real_read)(int, void *, size_t);
static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_ioctl)(int, unsigned long, ...);
static void *(*real_mmap)(void *, size_t, int, int, int, off_t);
static int (*real_close)(int);

__attribute__((constructor)) static void find_real(void) {
  real_open = dlsym(RTLD_NEXT, "open64");
  real_read = dlsym(RTLD_NEXT, "read");
  real_write = dlsym(RTLD_NEXT, "write");
  real_ioctl = dlsym(RTLD_NEXT, "ioctl");
  real_mmap = dlsym(RTLD_NEXT, "mmap64");
  real_close = dlsym(RTLD_NEXT, "close");
}

static enum kind kind_of(int fd) {
  return fd >= 0 && fd < FDS ? kinds[fd] : OTHER;
}

static int open_device(enum kind kind) {
  pthread_mutex_lock(&lock);
  if (!guest.memory) guest = guest_connect(getenv("XENKIT_BENCH_GUEST"));
  pthread_mutex_unlock(&lock);
  int fd = kind == EVTCHN ? eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) : fcntl(guest.memfd, F_DUPFD_CLOEXEC, 0);
  if (fd >= FDS) errx(1, "too many descriptors for %d kinds", FDS);
  if (fd >= 0) kinds[fd] = kind;
  return fd;
}

int open64(const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  mode_t mode = va_arg(arguments, mode_t);
  va_end(arguments);
  if (!strcmp(path, "/dev/xen/gntdev")) return open_device(GNTDEV);
  if (!strcmp(path, "/dev/xen/evtchn")) return open_device(EVTCHN);
  return real_open(path, flags, mode);
}

int close(int fd) {
  if (kind_of(fd) != OTHER) kinds[fd] = OTHER;
  return real_close(fd);
}

static ssize_t read_ports(int fd, uint32_t *ports, size_t capacity) {
  eventfd_t count;
  if (real_read(fd, &count, sizeof count) < 0) return -1;
  size_t found = 0;
  for (uint32_t port = 1; port < ports_end && found < capacity; port++) {
    if (owners[port] == fd && __atomic_exchange_n(&guest.memory[port], 0, __ATOMIC_SEQ_CST)) ports[found++] = port;
  }
  if (found > 0) return (ssize_t)(found * sizeof *ports);
  errno = EAGAIN;
  return -1;
}

ssize_t read(int fd, void *buffer, size_t size) {
  return kind_of(fd) == EVTCHN ? read_ports(fd, buffer, size / sizeof(uint32_t)) : real_read(fd, buffer, size);
}

static void count(uint64_t *calls) {
  __atomic_fetch_add(calls, 1, __ATOMIC_RELAXED);
}

ssize_t write(int fd, const void *buffer, size_t size) {
  if (kind_of(fd) != EVTCHN) return real_write(fd, buffer, size);
  count(&calls_of(guest.memory)->unmasks);
  return (ssize_t)size;
}

static int bind_port(int fd, uint32_t port) {
  pthread_mutex_lock(&lock);
  owners[port] = fd;
  notified[port] = guest_bind(&guest, port, fd);
  if (port >= ports_end) ports_end = port + 1;
  pthread_mutex_unlock(&lock);
  return (int)port;
}

static int unbind_port(uint32_t port) {
  owners[port] = 0;
  return real_close(notified[port]);
}

static int announce(struct ioctl_gntdev_map_grant_ref *map) {
  pthread_mutex_lock(&lock);
  if (refs_end + map->count > REFS) refs_end = 0;
  map->index = (uint64_t)refs_end * PAGE;
  for (uint32_t i = 0; i < map->count; i++) refs[refs_end++] = map->refs[i].ref;
  pthread_mutex_unlock(&lock);
  return 0;
}

static int copy(struct ioctl_gntdev_grant_copy *call) {
  for (unsigned i = 0; i < call->count; i++) {
    struct ioctl_gntdev_grant_copy_segment *segment = &call->segments[i];
    bool inward = segment->flags & GNTCOPY_source_gref;
    char *local = inward ? segment->dest.virt : segment->source.virt;
    char *foreign = inward ? guest_page(&guest, segment->source.foreign.ref) + segment->source.foreign.offset
                           : guest_page(&guest, segment->dest.foreign.ref) + segment->dest.foreign.offset;
    memcpy(inward ? local : foreign, inward ? foreign : local, segment->len);
    segment->status = 0;
  }
  return 0;
}

static int device_ioctl(int fd, unsigned long request, void *argument) {
  struct calls *calls = calls_of(guest.memory);
  count(kinds[fd] == GNTDEV ? &calls->grants : &calls->notifications);
  switch (request) {
  case IOCTL_GNTDEV_MAP_GRANT_REF:
    return announce(argument);
  case IOCTL_GNTDEV_UNMAP_GRANT_REF:
  case IOCTL_GNTDEV_SET_UNMAP_NOTIFY:
    return 0;
  case IOCTL_GNTDEV_GRANT_COPY:
    return copy(argument);
  case IOCTL_EVTCHN_BIND_INTERDOMAIN:
    return bind_port(fd, ((struct ioctl_evtchn_bind_interdomain *)argument)->remote_port);
  case IOCTL_EVTCHN_UNBIND:
    return unbind_port(((struct ioctl_evtchn_unbind *)argument)->port);
  case IOCTL_EVTCHN_NOTIFY:
    return eventfd_write(notified[((struct ioctl_evtchn_notify *)argument)->port], 1);
  default:
    errno = ENOTTY;
    return -1;
  }
}

int ioctl(int fd, unsigned long request, ...) {
  va_list arguments;
  va_start(arguments, request);
  void *argument = va_arg(arguments, void *);
  va_end(arguments);
  return kind_of(fd) == OTHER ? real_ioctl(fd, request, argument) : device_ioctl(fd, request, argument);
}

/* Maps granted pages, which may lie anywhere in the guest. */
void *mmap64(void *at, size_t bytes, int protection, int flags, int fd, off_t offset) {
  if (kind_of(fd) != GNTDEV) return real_mmap(at, bytes, protection, flags, fd, offset);
  if (!(flags & MAP_FIXED)) {
    errno = EINVAL;
    return MAP_FAILED;
  }
  for (size_t page = 0; page < bytes / PAGE; page++) {
    off_t from = (off_t)refs[offset / PAGE + (off_t)page] * PAGE;
    void *mapped = real_mmap((char *)at + page * PAGE, PAGE, protection, flags, guest.memfd, from);
    if (mapped == MAP_FAILED) return MAP_FAILED;
  }
  return at;
}
