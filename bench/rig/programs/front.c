/* front SOCKET RINGS BLOCKS: the guest's side of a disk with BLOCKS blocks of 4 KiB, modelled on
 * Linux's blkfront, on each of the guest's rings.
 *
 * Each line "OPERATION DEPTH SEGMENTS SECONDS REQUESTS" on standard input runs one turn. It keeps
 * DEPTH requests of SEGMENTS pages in flight, at random places, for SECONDS seconds or until
 * REQUESTS were sent. OPERATION is read, write, or mixed: 70 reads to 30 writes. The answer gives
 * the number of requests, the seconds, the notifications in both directions, and the backend's
 * calls on devices.
 *
 * Each block begins with its number and with the number of the last write to it. Every read checks
 * both, and a wrong value ends the program. */
#define _GNU_SOURCE
#include <pthread.h>
#include "../served-guest.h"

enum operation { READ, WRITE, MIXED };

struct turn {
  enum operation operation;
  unsigned depth, segments;
  double seconds;
  uint64_t requests;
};

struct disk {
  blkif_front_ring_t ring;
  unsigned number;
  uint64_t random;
  /* First block of each slot's request, and whether the request is a write. */
  uint64_t first[SLOTS];
  bool writes[SLOTS];
  uint64_t requests, kicks, wakes;
};

static unsigned disk_count;
static struct disk *disks;
static uint64_t blocks;
/* By block: the number of writes to it. By first block of a request: whether one is in flight. */
static uint32_t *versions;
static bool *busy;
static struct turn turn;

static uint64_t *word_of(const struct disk *disk, unsigned slot, unsigned segment) {
  return (uint64_t *)page_of(gref_of(disk->number, DATA_PAGES + slot * SEGMENTS_MAX + segment));
}

static uint64_t content_of(uint64_t block) {
  return block | (uint64_t)versions[block] << 32;
}

static struct blkif_request_segment segment_of(const struct disk *disk, unsigned slot, unsigned segment) {
  uint32_t gref = gref_of(disk->number, DATA_PAGES + slot * SEGMENTS_MAX + segment);
  return (struct blkif_request_segment){ .gref = gref, .first_sect = 0, .last_sect = PAGE / 512 - 1 };
}

static void prepare(void) {
  for (unsigned number = 0; number < disk_count; number++) {
    struct disk *disk = &disks[number];
    blkif_sring_t *shared = (blkif_sring_t *)page_of(gref_of(number, 0));
    SHARED_RING_INIT(shared);
    FRONT_RING_INIT(&disk->ring, shared, PAGE);
    disk->number = number;
    disk->random = 88172645463325252 + number;
  }
}

static void send_request(struct disk *disk, unsigned slot) {
  uint64_t first;
  /* Another ring's thread may have chosen the same block. */
  do first = random_of(&disk->random) % (blocks / turn.segments) * turn.segments;
  while (__atomic_exchange_n(&busy[first], true, __ATOMIC_ACQUIRE));
  bool writes = turn.operation == WRITE || (turn.operation == MIXED && random_of(&disk->random) % 10 >= 7);
  disk->first[slot] = first;
  disk->writes[slot] = writes;
  for (unsigned i = 0; writes && i < turn.segments; i++) {
    versions[first + i]++;
    *word_of(disk, slot, i) = content_of(first + i);
  }
  blkif_request_t *request = RING_GET_REQUEST(&disk->ring, disk->ring.req_prod_pvt++);
  uint8_t operation = writes ? BLKIF_OP_WRITE : BLKIF_OP_READ;
  if (turn.segments <= BLKIF_MAX_SEGMENTS_PER_REQUEST) {
    *request = (blkif_request_t){ .operation = operation, .nr_segments = (uint8_t)turn.segments, .handle = 51712, .id = slot, .sector_number = first * 8 };
    for (unsigned i = 0; i < turn.segments; i++) request->seg[i] = segment_of(disk, slot, i);
  } else {
    struct blkif_request_segment *segments = (void *)page_of(gref_of(disk->number, INDIRECT_PAGES + slot));
    for (unsigned i = 0; i < turn.segments; i++) segments[i] = segment_of(disk, slot, i);
    *(blkif_request_indirect_t *)request = (blkif_request_indirect_t){
      .operation = BLKIF_OP_INDIRECT, .indirect_op = operation, .nr_segments = (uint16_t)turn.segments, .handle = 51712, .id = slot,
      .sector_number = first * 8, .indirect_grefs = { gref_of(disk->number, INDIRECT_PAGES + slot) },
    };
  }
}

static void check_response(struct disk *disk, const blkif_response_t *response) {
  unsigned slot = (unsigned)response->id;
  uint64_t first = disk->first[slot];
  if (response->status != BLKIF_RSP_OKAY) errx(1, "request of block %lu failed: %d", first, response->status);
  for (unsigned i = 0; i < turn.segments; i++) {
    uint64_t found = *word_of(disk, slot, i);
    if (found != content_of(first + i)) errx(1, "block %lu holds %lx, not %lx", first + i, found, content_of(first + i));
  }
  __atomic_store_n(&busy[first], false, __ATOMIC_RELEASE);
}

static void *run(void *argument) {
  struct disk *disk = argument;
  blkif_front_ring_t *ring = &disk->ring;
  uint32_t port = port_of(disk->number);
  unsigned free_slots[SLOTS], free_count = 0;
  double end = seconds_now() + turn.seconds;
  uint64_t sent = 0;
  disk->requests = disk->kicks = disk->wakes = 0;
  while (free_count < turn.depth) free_slots[free_count] = free_count, free_count++;
  for (bool stop = false;;) {
    int notify, more;
    while (!stop && free_count > 0 && sent < turn.requests) {
      send_request(disk, free_slots[--free_count]);
      sent++;
    }
    RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(ring, notify);
    if (notify) {
      kick(port);
      disk->kicks++;
    }
    if (free_count == turn.depth) return NULL;
    do {
      RING_IDX produced = ring->sring->rsp_prod;
      xen_rmb();
      bool found = ring->rsp_cons != produced;
      while (ring->rsp_cons != produced) {
        const blkif_response_t *response = RING_GET_RESPONSE(ring, ring->rsp_cons++);
        check_response(disk, response);
        free_slots[free_count++] = (unsigned)response->id;
        disk->requests++;
      }
      if (found) break;
      RING_FINAL_CHECK_FOR_RESPONSES(ring, more);
      if (more) continue;
      wait_for_event(port);
      disk->wakes++;
      more = true;
    } while (more);
    stop = stop || seconds_now() > end;
  }
}

static void answer(char *line) {
  char operation[8];
  if (sscanf(line, "%7s %u %u %lf %lu", operation, &turn.depth, &turn.segments, &turn.seconds, &turn.requests) != 5) errx(1, "no request: %s", line);
  turn.operation = *operation == 'r' ? READ : *operation == 'w' ? WRITE : MIXED;
  double begin = seconds_now();
  struct calls before = *calls_of(memory);
  pthread_t threads[disk_count];
  uint64_t requests = 0, kicks = 0, wakes = 0;
  for (unsigned i = 1; i < disk_count; i++) pthread_create(&threads[i], NULL, run, &disks[i]);
  run(&disks[0]);
  for (unsigned i = 1; i < disk_count; i++) pthread_join(threads[i], NULL);
  for (unsigned i = 0; i < disk_count; i++) requests += disks[i].requests, kicks += disks[i].kicks, wakes += disks[i].wakes;
  struct calls after = *calls_of(memory);
  printf("{\"requests\":%lu,\"seconds\":%f,\"kicks\":%lu,\"wakes\":%lu,", requests, seconds_now() - begin, kicks, wakes);
  printf("\"grantCalls\":%lu,\"eventCalls\":%lu}\n", after.grants - before.grants, after.notifications - before.notifications + after.unmasks - before.unmasks);
}

int main(int argc, char **argv) {
  if (argc != 4) errx(2, "usage: front SOCKET RINGS BLOCKS");
  disk_count = (unsigned)atoi(argv[2]);
  blocks = (uint64_t)atol(argv[3]);
  disks = calloc(disk_count, sizeof *disks);
  versions = calloc(blocks, sizeof *versions);
  busy = calloc(blocks, sizeof *busy);
  serve_guest(argv[1], disk_count, prepare, answer);
}
