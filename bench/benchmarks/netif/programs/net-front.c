/* net-front SOCKET: the guest's side of a network card with one queue, modelled on Linux's netfront.
 *
 * Each line "DIRECTION SIZE DEPTH SECONDS PACKETS TAP" on standard input runs one turn. It keeps
 * DEPTH packets of SIZE bytes under way, for SECONDS seconds or until PACKETS were sent. With the
 * direction tx the guest sends them. With rx it receives packets that a packet socket sends on the
 * interface TAP. Packets are TCP with a blank checksum; those of more than 1514 bytes are to be
 * segmented. The answer gives the number of packets, the seconds, and the backend's calls on
 * devices.
 *
 * Each received packet is checked: its length, the number in its header and its last byte. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <linux/if_packet.h>
#include "../../../rig/served-guest.h"
#include "net.h"

enum { BURST = 64, PATIENCE_MS = 2000 };

static netif_tx_front_ring_t tx;
static netif_rx_front_ring_t rx;
static uint64_t packets, limit;
static unsigned size, depth;

static char *data_of(unsigned ring, unsigned slot) {
  return page_of(gref_of(ring, DATA_PAGES + slot));
}

static void prepare(void) {
  netif_tx_sring_t *shared_tx = (netif_tx_sring_t *)page_of(gref_of(TX, 0));
  SHARED_RING_INIT(shared_tx);
  FRONT_RING_INIT(&tx, shared_tx, PAGE);
  netif_rx_sring_t *shared_rx = (netif_rx_sring_t *)page_of(gref_of(RX, 0));
  SHARED_RING_INIT(shared_rx);
  FRONT_RING_INIT(&rx, shared_rx, PAGE);
  for (unsigned slot = 0; slot < RING_SLOTS; slot++) {
    memset(data_of(TX, slot), 0x5a, PAGE);
    *RING_GET_REQUEST(&rx, rx.req_prod_pvt++) = (netif_rx_request_t){ .id = (uint16_t)slot, .gref = gref_of(RX, DATA_PAGES + slot) };
  }
  RING_PUSH_REQUESTS(&rx);
}

/* Headers of a packet to an address that isn't the interface's, so the host drops it early. */
static void put_headers(char *at, uint32_t number) {
  static const unsigned char start[HEADERS] = { 2, 0, 0, 0, 0, 0x99, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x30, 0x39, 0x30, 0x3a, [TCP + 12] = 0x50, [TCP + 13] = 0x10 };
  memcpy(at, start, sizeof start);
  uint16_t length = htons((uint16_t)(size - IP));
  memcpy(at + IP + 2, &length, sizeof length);
  memcpy(at + TCP + 4, &number, sizeof number);
}

static bool is_segmented(void) {
  return size > WHOLE_MAX;
}

static unsigned slots_of_packet(void) {
  return (size + PAGE - 1) / PAGE + is_segmented();
}

static void send_packet(uint32_t number) {
  unsigned left = size;
  for (unsigned part = 0; left > 0; part++) {
    unsigned slot = tx.req_prod_pvt % RING_SLOTS, bytes = left < PAGE ? left : PAGE;
    left -= bytes;
    uint16_t flags = left > 0 ? NETTXF_more_data : 0;
    if (part == 0) {
      put_headers(data_of(TX, slot), number);
      flags |= NETTXF_csum_blank | NETTXF_data_validated | (is_segmented() ? NETTXF_extra_info : 0);
    }
    *RING_GET_REQUEST(&tx, tx.req_prod_pvt++) = (netif_tx_request_t){
      .gref = gref_of(TX, DATA_PAGES + slot), .flags = flags, .id = (uint16_t)slot, .size = (uint16_t)(part == 0 ? size : bytes),
    };
    if (part == 0 && is_segmented()) {
      netif_extra_info_t *extra = (netif_extra_info_t *)RING_GET_REQUEST(&tx, tx.req_prod_pvt++);
      *extra = (netif_extra_info_t){ .type = XEN_NETIF_EXTRA_TYPE_GSO, .u.gso = { .size = SEGMENT, .type = XEN_NETIF_GSO_TYPE_TCPV4 } };
    }
  }
}

/* Waits for an event; a packet that was lost ends the program. */
static void wait_briefly(uint32_t port) {
  struct pollfd ready = { wake_fds[port], POLLIN, 0 };
  if (poll(&ready, 1, PATIENCE_MS) <= 0) errx(1, "no event on port %u for %d ms after %lu packets", port, PATIENCE_MS, packets);
  wait_for_event(port);
}

static void run_tx(double end) {
  uint32_t sent = 0;
  unsigned slots = 0, per_packet = slots_of_packet();
  for (bool stop = false;;) {
    int notify, more;
    while (!stop && sent < limit && slots / per_packet < depth && slots + per_packet <= RING_SLOTS) {
      send_packet(sent++);
      slots += per_packet;
    }
    RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&tx, notify);
    if (notify) kick(port_of(TX));
    if (slots == 0) break;
    do {
      RING_IDX produced = tx.sring->rsp_prod;
      xen_rmb();
      bool found = tx.rsp_cons != produced;
      while (tx.rsp_cons != produced) {
        int16_t status = RING_GET_RESPONSE(&tx, tx.rsp_cons++)->status;
        if (status != NETIF_RSP_OKAY && status != NETIF_RSP_NULL) errx(1, "a packet was answered with %d", status);
        slots--;
      }
      if (found) break;
      RING_FINAL_CHECK_FOR_RESPONSES(&tx, more);
      if (more) continue;
      wait_briefly(port_of(TX));
      more = true;
    } while (more);
    stop = stop || seconds_now() > end;
  }
  packets = sent;
}

/* Opens a packet socket whose packets have a virtio_net_hdr. */
static int open_packets(const char *tap) {
  struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(tap) };
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), one = 1, room = 64 << 20;
  if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) || setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one) ||
      setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room) || bind(fd, (struct sockaddr *)&address, sizeof address))
    err(1, "packet socket on \"%s\"", tap);
  return fd;
}

static unsigned send_burst(int fd, uint32_t number, unsigned count) {
  static char buffers[BURST][65536];
  struct virtio_net_hdr header = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = TCP, .csum_offset = 16 };
  if (is_segmented()) header.gso_type = VIRTIO_NET_HDR_GSO_TCPV4, header.gso_size = SEGMENT, header.hdr_len = HEADERS;
  struct iovec parts[BURST][2];
  struct mmsghdr messages[BURST];
  if (count > BURST) count = BURST;
  for (unsigned i = 0; i < count; i++) {
    put_headers(buffers[i], number + i);
    buffers[i][size - 1] = (char)(number + i);
    parts[i][0] = (struct iovec){ &header, sizeof header };
    parts[i][1] = (struct iovec){ buffers[i], size };
    messages[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = parts[i], .msg_iovlen = 2 } };
  }
  int sent = sendmmsg(fd, messages, count, 0);
  if (sent < 0 && errno != ENOBUFS && errno != EAGAIN) err(1, "send packets");
  return sent < 0 ? 0 : (unsigned)sent;
}

/* Takes a response; returns whether it ends a packet of this benchmark's. Others are the host's. */
static bool take_response(uint32_t expected) {
  static unsigned length;
  static bool ours;
  const netif_rx_response_t *response = RING_GET_RESPONSE(&rx, rx.rsp_cons++);
  uint16_t id = response->id, flags = response->flags;
  int16_t status = response->status;
  static bool extra;
  bool ends = false;
  if (extra) {
    extra = ((const netif_extra_info_t *)response)->flags & XEN_NETIF_EXTRA_FLAG_MORE;
    id = (uint16_t)((rx.rsp_cons - 1) % RING_SLOTS);
  } else {
    if (status < 0) errx(1, "a packet was received with %d", status);
    const char *data = data_of(RX, id) + response->offset;
    if (length == 0) {
      uint32_t number;
      memcpy(&number, data + TCP + 4, sizeof number);
      ours = data[5] == (char)0x99;
      if (ours && number != expected) errx(1, "packet %u came in place of %u", number, expected);
    }
    length += (unsigned)status;
    extra = flags & NETRXF_extra_info;
    if (!(flags & NETRXF_more_data)) {
      if (ours && (length != size || data[status - 1] != (char)expected)) errx(1, "packet %u has %u bytes or wrong data", expected, length);
      ends = ours;
      length = 0;
    }
  }
  *RING_GET_REQUEST(&rx, rx.req_prod_pvt++) = (netif_rx_request_t){ .id = id, .gref = gref_of(RX, DATA_PAGES + id) };
  return ends;
}

static void run_rx(double end, const char *tap) {
  int fd = open_packets(tap);
  unsigned most = RING_SLOTS / slots_of_packet();
  if (depth > most) depth = most;
  uint32_t sent = 0, got = 0;
  for (bool stop = false;;) {
    int notify, more;
    if (!stop && sent < limit && sent - got < depth) {
      uint64_t count = depth - (sent - got);
      sent += send_burst(fd, sent, (unsigned)(count < limit - sent ? count : limit - sent));
    }
    if (sent == got && (stop || sent == limit)) break;
    do {
      RING_IDX produced = rx.sring->rsp_prod;
      xen_rmb();
      bool found = rx.rsp_cons != produced;
      while (rx.rsp_cons != produced) got += take_response(got);
      if (found) break;
      RING_FINAL_CHECK_FOR_RESPONSES(&rx, more);
      if (more) continue;
      wait_briefly(port_of(RX));
      more = true;
    } while (more);
    RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(&rx, notify);
    if (notify) kick(port_of(RX));
    stop = stop || seconds_now() > end;
  }
  packets = got;
  close(fd);
}

static void answer(char *line) {
  char direction[4], tap[IFNAMSIZ];
  double seconds;
  if (sscanf(line, "%3s %u %u %lf %lu %15s", direction, &size, &depth, &seconds, &limit, tap) != 6) errx(1, "no turn: %s", line);
  double begin = seconds_now();
  struct calls before = *calls_of(memory);
  packets = 0;
  if (*direction == 't') run_tx(begin + seconds);
  else run_rx(begin + seconds, tap);
  struct calls after = *calls_of(memory);
  printf("{\"packets\":%lu,\"seconds\":%f,", packets, seconds_now() - begin);
  printf("\"grantCalls\":%lu,\"eventCalls\":%lu,\"unmasks\":%lu}\n", after.grants - before.grants, after.notifications - before.notifications + after.unmasks - before.unmasks, after.unmasks - before.unmasks);
}

int main(int argc, char **argv) {
  if (argc != 2) errx(2, "usage: net-front SOCKET");
  serve_guest(argv[1], 2, prepare, answer);
}
