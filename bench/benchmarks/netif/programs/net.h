/* What the guest and the backend in C have in common: packets, and their headers on a TAP device
 * and on a packet socket. */
#ifndef NET_H
#define NET_H
#include <linux/virtio_net.h>
#include <xen/io/netif.h>

enum {
  /* Rings of the guest (guest.h), by number. Each is one page. */
  TX, RX,
  /* Pages for data of a ring: one for each slot. */
  RING_SLOTS = 256,
  /* Longest packet that isn't to be segmented; in longer ones, the bytes of a segment's payload. */
  WHOLE_MAX = 1514, SEGMENT = 1448,
  /* Ethernet, IPv4 and TCP. */
  HEADERS = 54, IP = 14, TCP = 34,
};

#endif
