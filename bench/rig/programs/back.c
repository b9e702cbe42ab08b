/* back SOCKET RINGS FILE HOW: a backend in C, with the macros of ring.h and one thread per ring of
 * the guest. HOW is one of:
 *
 *   pread    reads by pread, and blocks until there is an event
 *   mmap     as pread, but copies reads from a mapping of the file
 *   spin     as pread, but polls the ring for up to 50 us before it blocks
 *   thread   as pread, but another thread writes, 16 requests at a time, as in our backend
 *
 * In all but the last, a write that waits for the disk delays all other requests.
 *
 * As in our backend, a request is copied before its fields are read (XSA-155). Responses are
 * published 8 at a time, or when there is no other work. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include "../guest.h"

enum { PUBLISH = 8, SHARE = 16, SPIN_NS = 50000, LOOKS = 64 };

static struct guest guest;
static int file;
static off_t file_bytes;
/* The mapping of the file; NULL unless HOW is mmap. */
static char *mapped;
static bool spins, writes_in_thread;

static int64_t nanoseconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000 + now.tv_nsec;
}

static int16_t transfer(uint8_t operation, uint64_t sector, const struct blkif_request_segment *segments, unsigned count) {
  struct iovec parts[SEGMENTS_MAX];
  size_t bytes = 0;
  for (unsigned i = 0; i < count; i++) {
    struct blkif_request_segment segment = segments[i];
    if (segment.last_sect < segment.first_sect || segment.last_sect > 7) return BLKIF_RSP_ERROR;
    size_t length = (segment.last_sect - segment.first_sect + 1u) * 512;
    parts[i] = (struct iovec){ guest_page(&guest, segment.gref) + segment.first_sect * 512, length };
    bytes += length;
  }
  off_t at = (off_t)sector * 512;
  if (sector > (uint64_t)file_bytes / 512 || at + (off_t)bytes > file_bytes) return BLKIF_RSP_ERROR;
  if (mapped && operation == BLKIF_OP_READ) {
    for (unsigned i = 0; i < count; at += (off_t)parts[i++].iov_len) memcpy(parts[i].iov_base, mapped + at, parts[i].iov_len);
    return BLKIF_RSP_OKAY;
  }
  ssize_t moved;
  if (operation == BLKIF_OP_WRITE) moved = count == 1 ? pwrite(file, parts->iov_base, bytes, at) : pwritev(file, parts, (int)count, at);
  else moved = count == 1 ? pread(file, parts->iov_base, bytes, at) : preadv(file, parts, (int)count, at);
  return moved == (ssize_t)bytes ? BLKIF_RSP_OKAY : BLKIF_RSP_ERROR;
}

static int16_t run_request(const blkif_request_t *request, uint8_t *operation) {
  *operation = request->operation;
  if (request->operation == BLKIF_OP_INDIRECT) {
    const blkif_request_indirect_t *indirect = (const void *)request;
    struct blkif_request_segment segments[SEGMENTS_MAX];
    if (indirect->nr_segments > SEGMENTS_MAX) return BLKIF_RSP_ERROR;
    memcpy(segments, guest_page(&guest, indirect->indirect_grefs[0]), indirect->nr_segments * sizeof *segments);
    *operation = indirect->indirect_op;
    return transfer(indirect->indirect_op, indirect->sector_number, segments, indirect->nr_segments);
  }
  if (request->operation != BLKIF_OP_READ && request->operation != BLKIF_OP_WRITE) return BLKIF_RSP_EOPNOTSUPP;
  if (request->nr_segments > BLKIF_MAX_SEGMENTS_PER_REQUEST) return BLKIF_RSP_ERROR;
  return transfer(request->operation, request->sector_number, request->seg, request->nr_segments);
}

/* Polls the ring. Returns whether a request arrived. */
static bool spin(const blkif_back_ring_t *ring) {
  for (int64_t end = nanoseconds_now() + SPIN_NS; nanoseconds_now() < end;) {
    for (int i = 0; i < LOOKS; i++) {
      if (__atomic_load_n(&ring->sring->req_prod, __ATOMIC_ACQUIRE) != ring->req_cons) return true;
      __builtin_ia32_pause();
    }
  }
  return false;
}

static void publish(blkif_back_ring_t *ring, int notified) {
  int notify;
  RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(ring, notify);
  if (notify && eventfd_write(notified, 1)) err(1, "notify the guest");
}

struct channel {
  blkif_back_ring_t ring;
  int notified, event;
};

static void respond(blkif_back_ring_t *ring, uint64_t id, uint8_t operation, int16_t status) {
  *RING_GET_RESPONSE(ring, ring->rsp_prod_pvt++) = (blkif_response_t){ .id = id, .operation = operation, .status = status };
}

struct write {
  blkif_request_t request;
  uint8_t operation;
  int16_t status;
};

/* Queues to and from the writing thread, each with room for all requests of a one-page ring. */
struct writer {
  pthread_mutex_t mutex;
  pthread_cond_t wake;
  struct write queued[SLOTS], done[SLOTS];
  unsigned queued_count, done_count;
  int event;
};

static void *write_all(void *argument) {
  struct writer *writer = argument;
  struct write share[SHARE];
  pthread_mutex_lock(&writer->mutex);
  for (;;) {
    while (writer->queued_count == 0) pthread_cond_wait(&writer->wake, &writer->mutex);
    unsigned count = writer->queued_count < SHARE ? writer->queued_count : SHARE;
    memcpy(share, writer->queued, count * sizeof *share);
    writer->queued_count -= count;
    memmove(writer->queued, writer->queued + count, writer->queued_count * sizeof *share);
    pthread_mutex_unlock(&writer->mutex);
    for (unsigned i = 0; i < count; i++) share[i].status = run_request(&share[i].request, &share[i].operation);
    pthread_mutex_lock(&writer->mutex);
    memcpy(writer->done + writer->done_count, share, count * sizeof *share);
    bool told = writer->done_count > 0;
    writer->done_count += count;
    if (!told && eventfd_write(writer->event, 1)) err(1, "tell of writes");
  }
}

static void queue_writes(struct writer *writer, const struct write *writes, unsigned count) {
  pthread_mutex_lock(&writer->mutex);
  memcpy(writer->queued + writer->queued_count, writes, count * sizeof *writes);
  writer->queued_count += count;
  pthread_mutex_unlock(&writer->mutex);
  pthread_cond_signal(&writer->wake);
}

static unsigned take_written(struct writer *writer, struct write *writes) {
  pthread_mutex_lock(&writer->mutex);
  unsigned count = writer->done_count;
  memcpy(writes, writer->done, count * sizeof *writes);
  writer->done_count = 0;
  pthread_mutex_unlock(&writer->mutex);
  return count;
}

static bool is_write(const blkif_request_t *request) {
  if (request->operation == BLKIF_OP_INDIRECT) return ((const blkif_request_indirect_t *)request)->indirect_op == BLKIF_OP_WRITE;
  return request->operation == BLKIF_OP_WRITE;
}

/* Answers reads at once, and writes when the writing thread has completed them. */
static void serve_beside_writer(struct channel *channel) {
  blkif_back_ring_t *ring = &channel->ring;
  struct writer writer = { .mutex = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER, .event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
  pthread_t thread;
  if (pthread_create(&thread, NULL, write_all, &writer)) err(1, "start a thread");
  struct pollfd ready[] = { { .fd = channel->event, .events = POLLIN }, { .fd = writer.event, .events = POLLIN } };
  for (;;) {
    struct write writes[SLOTS];
    unsigned pending = 0, written = take_written(&writer, writes);
    for (unsigned i = 0; i < written; i++) {
      respond(ring, writes[i].request.id, writes[i].operation, writes[i].status);
      if (++pending % PUBLISH == 0) publish(ring, channel->notified);
    }
    RING_IDX produced = ring->sring->req_prod;
    xen_rmb();
    if (RING_REQUEST_PROD_OVERFLOW(ring, produced)) errx(1, "the guest sent more requests than the ring holds");
    unsigned count = 0;
    while (ring->req_cons != produced) {
      struct write *next = &writes[count];
      RING_COPY_REQUEST(ring, ring->req_cons++, &next->request);
      if (is_write(&next->request)) count++;
      else {
        next->status = run_request(&next->request, &next->operation);
        respond(ring, next->request.id, next->operation, next->status);
        if (++pending % PUBLISH == 0) publish(ring, channel->notified);
      }
    }
    if (count > 0) queue_writes(&writer, writes, count);
    if (pending > 0) publish(ring, channel->notified);
    int more;
    eventfd_t ignored;
    RING_FINAL_CHECK_FOR_REQUESTS(ring, more);
    if (more) continue;
    if (poll(ready, 2, -1) < 0) err(1, "wait for the guest");
    if (ready[0].revents && eventfd_read(channel->event, &ignored)) err(1, "wait for the guest");
    if (ready[1].revents && eventfd_read(writer.event, &ignored)) err(1, "wait for writes");
  }
}

static void *serve(void *argument) {
  struct channel *channel = argument;
  blkif_back_ring_t *ring = &channel->ring;
  if (writes_in_thread) serve_beside_writer(channel);
  for (;;) {
    RING_IDX produced = ring->sring->req_prod;
    xen_rmb();
    if (RING_REQUEST_PROD_OVERFLOW(ring, produced)) errx(1, "the guest sent more requests than the ring holds");
    unsigned pending = 0;
    while (ring->req_cons != produced) {
      blkif_request_t request;
      RING_COPY_REQUEST(ring, ring->req_cons++, &request);
      uint8_t operation;
      int16_t status = run_request(&request, &operation);
      respond(ring, request.id, operation, status);
      if (++pending == PUBLISH) {
        publish(ring, channel->notified);
        pending = 0;
      }
    }
    if (pending > 0) publish(ring, channel->notified);
    if (ring->sring->req_prod != ring->req_cons || (spins && spin(ring))) continue;
    int more;
    eventfd_t count;
    RING_FINAL_CHECK_FOR_REQUESTS(ring, more);
    if (!more && eventfd_read(channel->event, &count)) err(1, "wait for the guest");
  }
}

int main(int argc, char **argv) {
  if (argc != 5) errx(2, "usage: back SOCKET RINGS FILE HOW");
  unsigned rings = (unsigned)atoi(argv[2]);
  guest = guest_connect(argv[1]);
  file = open(argv[3], O_RDWR | O_CLOEXEC);
  struct stat status;
  if (file < 0 || fstat(file, &status)) err(1, "open \"%s\"", argv[3]);
  file_bytes = status.st_size;
  spins = !strcmp(argv[4], "spin");
  writes_in_thread = !strcmp(argv[4], "thread");
  if (!strcmp(argv[4], "mmap")) {
    mapped = mmap(NULL, (size_t)file_bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, file, 0);
    if (mapped == MAP_FAILED) err(1, "map \"%s\"", argv[3]);
  }
  struct channel *channels = calloc(rings, sizeof *channels);
  for (unsigned i = 0; i < rings; i++) {
    BACK_RING_INIT(&channels[i].ring, (blkif_sring_t *)guest_page(&guest, gref_of(i, 0)), PAGE);
    channels[i].event = eventfd(0, EFD_CLOEXEC);
    channels[i].notified = guest_bind(&guest, port_of(i), channels[i].event);
    pthread_t thread;
    if (pthread_create(&thread, NULL, serve, &channels[i])) err(1, "start a thread");
  }
  puts("ready");
  fflush(stdout);
  while (getchar() != EOF);
  _exit(0);
}
