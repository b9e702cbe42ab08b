/* net-back SOCKET TAP HOW: a network backend in C, with the macros of ring.h. It serves one queue, and
 * its packets' far end is the TAP device TAP. HOW is one of:
 *
 *   each    writes one packet with a system call
 *   uring   writes up to 64 packets with one system call, by io_uring
 *
 * Both read one packet with a system call.
 *
 * As in our backend, a slot is copied before its fields are read (XSA-155), a packet is copied before
 * its headers are, and responses are published for a batch. A grant copy is a memcpy here. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include "../../../rig/guest.h"
#include "net.h"

enum { BATCH = 64, PACKET_MAX = 65536 + 64, RWF_NOWAIT_FLAG = 8, SLOTS_MAX = 18 };

struct packet {
  struct virtio_net_hdr header;
  /* Slots that it took. */
  unsigned slots;
  unsigned length;
  struct iovec parts[2];
};

static struct guest guest;
static int tap;
static bool by_uring;
static netif_tx_back_ring_t tx;
static netif_rx_back_ring_t rx;
static int tx_event, rx_event, tx_notified, rx_notified;
static struct packet batch[BATCH];
static char data[BATCH][PACKET_MAX];
static int results[BATCH];

/* ---- io_uring ---- */

static struct {
  int fd;
  unsigned *sq_tail, *cq_head, *cq_tail, mask, cq_mask;
  struct io_uring_sqe *sqes;
  struct io_uring_cqe *cqes;
} ring;

static void open_ring(void) {
  struct io_uring_params params = { 0 };
  ring.fd = (int)syscall(SYS_io_uring_setup, BATCH, &params);
  if (ring.fd < 0) err(1, "io_uring_setup");
  size_t bytes = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
  char *rings = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_SQ_RING);
  ring.sqes = mmap(NULL, params.sq_entries * sizeof *ring.sqes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_SQES);
  if (rings == MAP_FAILED || ring.sqes == MAP_FAILED) err(1, "map an io_uring");
  ring.sq_tail = (unsigned *)(rings + params.sq_off.tail);
  ring.cq_head = (unsigned *)(rings + params.cq_off.head);
  ring.cq_tail = (unsigned *)(rings + params.cq_off.tail);
  ring.cqes = (struct io_uring_cqe *)(rings + params.cq_off.cqes);
  ring.mask = params.sq_entries - 1;
  ring.cq_mask = params.cq_entries - 1;
  unsigned *array = (unsigned *)(rings + params.sq_off.array);
  for (unsigned i = 0; i < params.sq_entries; i++) array[i] = i;
  if (syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_FILES, &tap, 1)) err(1, "register the TAP device");
}

static void write_by_ring(unsigned count) {
  unsigned tail = *ring.sq_tail;
  for (unsigned i = 0; i < count; i++) {
    ring.sqes[(tail + i) & ring.mask] = (struct io_uring_sqe){
      .opcode = IORING_OP_WRITEV, .flags = IOSQE_FIXED_FILE, .off = (uint64_t)-1, .addr = (uintptr_t)batch[i].parts, .len = 2, .rw_flags = RWF_NOWAIT_FLAG, .user_data = i,
    };
  }
  __atomic_store_n(ring.sq_tail, tail + count, __ATOMIC_RELEASE);
  if (syscall(SYS_io_uring_enter, ring.fd, count, count, IORING_ENTER_GETEVENTS, NULL, 0) != (long)count) err(1, "io_uring_enter");
  unsigned head = *ring.cq_head;
  for (unsigned i = 0; i < count; i++, head++) {
    const struct io_uring_cqe *done = &ring.cqes[head & ring.cq_mask];
    results[done->user_data] = done->res;
  }
  __atomic_store_n(ring.cq_head, head, __ATOMIC_RELEASE);
}

/* ---- guest to TAP ---- */

/* Takes one packet from the ring. Returns false if it isn't whole yet. */
static bool take_packet(RING_IDX produced, unsigned at) {
  struct packet *packet = &batch[at];
  netif_tx_request_t first, slot;
  RING_IDX next = tx.req_cons;
  RING_COPY_REQUEST(&tx, next++, &first);
  bool segmented = first.flags & NETTXF_extra_info;
  uint16_t segment = 0;
  if (segmented) {
    if (next == produced) return false;
    RING_COPY_REQUEST(&tx, next++, &slot);
    netif_extra_info_t extra;
    memcpy(&extra, &slot, sizeof extra);
    if (extra.type != XEN_NETIF_EXTRA_TYPE_GSO || extra.u.gso.type != XEN_NETIF_GSO_TYPE_TCPV4) errx(1, "an extra info of type %u", extra.type);
    segment = extra.u.gso.size;
  }
  RING_IDX rest = next;
  unsigned others = 0;
  for (slot = first; slot.flags & NETTXF_more_data;) {
    if (next == produced) return false;
    RING_COPY_REQUEST(&tx, next++, &slot);
    others += slot.size;
  }
  if (others > first.size) errx(1, "a packet that is shorter than its parts");
  unsigned used = first.size - others;
  if (first.offset + used > PAGE) errx(1, "a slot that crosses a page");
  memcpy(data[at], guest_page(&guest, first.gref) + first.offset, used);
  for (; rest != next; rest++) {
    RING_COPY_REQUEST(&tx, rest, &slot);
    if (slot.offset + slot.size > PAGE) errx(1, "a slot that crosses a page");
    memcpy(data[at] + used, guest_page(&guest, slot.gref) + slot.offset, slot.size);
    used += slot.size;
  }
  packet->slots = next - tx.req_cons;
  packet->length = first.size;
  packet->header = (struct virtio_net_hdr){ 0 };
  const unsigned char *bytes = (const unsigned char *)data[at];
  if (first.flags & NETTXF_csum_blank) {
    unsigned headers = IP + (bytes[IP] & 15u) * 4;
    if (bytes[12] != 8 || bytes[13] != 0 || bytes[IP + 9] != 6 || headers + 20 > first.size) errx(1, "a blank checksum of something else than TCP");
    packet->header = (struct virtio_net_hdr){ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = (uint16_t)headers, .csum_offset = 16 };
    if (segmented) {
      packet->header.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
      packet->header.gso_size = segment;
      packet->header.hdr_len = (uint16_t)(headers + (bytes[headers + 12] >> 4) * 4u);
    }
  }
  packet->parts[0] = (struct iovec){ &packet->header, sizeof packet->header };
  packet->parts[1] = (struct iovec){ data[at], first.size };
  tx.req_cons = next;
  return true;
}

static void respond_tx(unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    if (results[i] < 0) errx(1, "a packet couldn't be written: %s", strerror(-results[i]));
    for (unsigned slot = 0; slot < batch[i].slots; slot++) {
      netif_tx_request_t request;
      RING_COPY_REQUEST(&tx, tx.rsp_prod_pvt, &request);
      bool extra = slot == 1 && batch[i].header.gso_type != VIRTIO_NET_HDR_GSO_NONE;
      *RING_GET_RESPONSE(&tx, tx.rsp_prod_pvt) = (netif_tx_response_t){ .id = request.id, .status = extra ? NETIF_RSP_NULL : NETIF_RSP_OKAY };
      tx.rsp_prod_pvt++;
    }
  }
  int notify;
  RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&tx, notify);
  if (notify && eventfd_write(tx_notified, 1)) err(1, "notify the guest");
}

/* Sends a batch. Returns whether there was one. */
static bool send_batch(void) {
  RING_IDX produced = tx.sring->req_prod;
  xen_rmb();
  if (RING_REQUEST_PROD_OVERFLOW(&tx, produced)) errx(1, "the guest sent more requests than the ring holds");
  unsigned count = 0;
  while (count < BATCH && tx.req_cons != produced && take_packet(produced, count)) {
    if (!by_uring) {
      ssize_t written = writev(tap, batch[count].parts, 2);
      results[count] = written < 0 ? -errno : (int)written;
    }
    count++;
  }
  if (count == 0) return false;
  if (by_uring) write_by_ring(count);
  respond_tx(count);
  return true;
}

/* ---- TAP to guest ---- */

static unsigned posted(void) {
  RING_IDX produced = rx.sring->req_prod;
  xen_rmb();
  return produced - rx.req_cons;
}

static void deliver(const struct virtio_net_hdr *header, unsigned length) {
  uint16_t flags = header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM ? NETRXF_csum_blank | NETRXF_data_validated : 0;
  bool segmented = header->gso_type != VIRTIO_NET_HDR_GSO_NONE;
  if (segmented) flags |= NETRXF_extra_info;
  for (unsigned used = 0; used < length;) {
    unsigned bytes = length - used < PAGE ? length - used : PAGE;
    netif_rx_request_t request;
    RING_COPY_REQUEST(&rx, rx.req_cons++, &request);
    memcpy(guest_page(&guest, request.gref), data[0] + used, bytes);
    used += bytes;
    if (used < length) flags |= NETRXF_more_data;
    *RING_GET_RESPONSE(&rx, rx.rsp_prod_pvt++) = (netif_rx_response_t){ .id = request.id, .flags = flags, .status = (int16_t)bytes };
    if (flags & NETRXF_extra_info) {
      rx.req_cons++;
      netif_extra_info_t extra = { .type = XEN_NETIF_EXTRA_TYPE_GSO, .u.gso = { .size = header->gso_size, .type = XEN_NETIF_GSO_TYPE_TCPV4 } };
      memcpy(RING_GET_RESPONSE(&rx, rx.rsp_prod_pvt++), &extra, sizeof extra);
    }
    flags = 0;
  }
}

/* Reads what there is, up to a batch. */
static void receive_batch(void) {
  struct iovec parts[2] = { { &batch[0].header, sizeof batch[0].header }, { data[0], PACKET_MAX } };
  for (unsigned count = 0; count < BATCH && posted() >= SLOTS_MAX; count++) {
    ssize_t got = readv(tap, parts, 2);
    if (got < 0) break;
    deliver(&batch[0].header, (unsigned)got - sizeof batch[0].header);
  }
  int notify;
  RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(&rx, notify);
  if (notify && eventfd_write(rx_notified, 1)) err(1, "notify the guest");
}

static void serve(void) {
  enum { SENT, POSTED, STDIN, TAP };
  struct pollfd ready[] = { { tx_event, POLLIN, 0 }, { rx_event, POLLIN, 0 }, { STDIN_FILENO, POLLIN, 0 }, { tap, POLLIN, 0 } };
  for (;;) {
    eventfd_t count;
    int more = send_batch();
    if (!more) RING_FINAL_CHECK_FOR_REQUESTS(&tx, more);
    bool has_room = posted() >= SLOTS_MAX;
    if (!has_room) {
      rx.sring->req_event = rx.req_cons + SLOTS_MAX;
      xen_mb();
      has_room = posted() >= SLOTS_MAX;
    }
    if (poll(ready, has_room ? 4 : 3, more ? 0 : -1) < 0) err(1, "poll");
    if (ready[STDIN].revents) _exit(0);
    if (ready[SENT].revents && eventfd_read(tx_event, &count)) err(1, "read an event");
    if (ready[POSTED].revents && eventfd_read(rx_event, &count)) err(1, "read an event");
    if (has_room && ready[TAP].revents) receive_batch();
  }
}

static void open_tap(const char *name) {
  struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  int any = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (tap < 0 || ioctl(tap, TUNSETIFF, &request) || ioctl(tap, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6)) err(1, "open TAP device \"%s\"", name);
  if (ioctl(any, SIOCGIFFLAGS, &request)) err(1, "flags of \"%s\"", name);
  request.ifr_flags |= IFF_UP;
  if (ioctl(any, SIOCSIFFLAGS, &request)) err(1, "set \"%s\" up", name);
  close(any);
}

static int bind_port(unsigned number, int *event) {
  *event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return guest_bind(&guest, port_of(number), *event);
}

int main(int argc, char **argv) {
  if (argc != 4) errx(2, "usage: net-back SOCKET TAP HOW");
  guest = guest_connect(argv[1]);
  open_tap(argv[2]);
  by_uring = !strcmp(argv[3], "uring");
  if (by_uring) open_ring();
  BACK_RING_INIT(&tx, (netif_tx_sring_t *)guest_page(&guest, gref_of(TX, 0)), PAGE);
  BACK_RING_INIT(&rx, (netif_rx_sring_t *)guest_page(&guest, gref_of(RX, 0)), PAGE);
  tx_notified = bind_port(TX, &tx_event);
  rx_notified = bind_port(RX, &rx_event);
  puts("ready");
  fflush(stdout);
  serve();
}
