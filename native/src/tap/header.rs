//! `virtio_net_hdr` of include/uapi/linux/virtio_net.h, which precedes each frame on a TAP device
//! with `IFF_VNET_HDR`. Its numbers are in the processor's byte order.

/// How a frame is to be completed, in the values of @xenkit/frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// 0: the receiver has to verify the checksum, 1: it was verified, 2: it is blank.
    pub checksum: u8,
    /// Of a blank checksum: first byte that it covers.
    pub checksum_start: u16,
    /// Of a blank checksum: its place after `checksum_start`.
    pub checksum_offset: u16,
    /// 0: whole, 1: to be split as TCP over IPv4, 2: over IPv6.
    pub gso: u8,
    /// Most bytes of payload in a segment.
    pub gso_size: u16,
    /// Bytes of the headers that each segment repeats. The kernel's value may be larger.
    pub headers: u16,
}

/// Bytes of a header. The device has this size unless TUNSETVNETHDRSZ changes it.
pub const BYTES: usize = 10;

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
/// Flag of the first of a TCP connection's segments after a sign of congestion. The kernel sends it
/// only with `TUN_F_TSO_ECN`, which isn't set here.
const GSO_ECN: u8 = 0x80;

const VERIFIED: u8 = 1;
const BLANK: u8 = 2;
const SPLIT4: u8 = 1;
const SPLIT6: u8 = 2;

impl Description {
    /// Builds the header for a frame that is sent.
    pub fn header(&self) -> [u8; BYTES] {
        let blank = self.checksum == BLANK;
        let flags = match self.checksum {
            BLANK => NEEDS_CSUM,
            VERIFIED => DATA_VALID,
            _ => 0,
        };
        let kind = match self.gso {
            SPLIT4 => GSO_TCPV4,
            SPLIT6 => GSO_TCPV6,
            _ => 0,
        };
        let or_zero = |used: bool, value: u16| if used { value } else { 0 }.to_ne_bytes();
        let [headers, size] = [self.headers, self.gso_size].map(|value| or_zero(kind != 0, value));
        let [start, offset] =
            [self.checksum_start, self.checksum_offset].map(|value| or_zero(blank, value));
        [
            flags, kind, headers[0], headers[1], size[0], size[1], start[0], start[1], offset[0],
            offset[1],
        ]
    }

    /// Reads the header of a frame that was received.
    pub fn of(header: [u8; BYTES]) -> Self {
        let [flags, kind, h0, h1, z0, z1, s0, s1, o0, o1] = header;
        Self {
            checksum: match flags {
                flags if flags & NEEDS_CSUM != 0 => BLANK,
                flags if flags & DATA_VALID != 0 => VERIFIED,
                _ => 0,
            },
            checksum_start: u16::from_ne_bytes([s0, s1]),
            checksum_offset: u16::from_ne_bytes([o0, o1]),
            gso: match kind & !GSO_ECN {
                GSO_TCPV4 => SPLIT4,
                GSO_TCPV6 => SPLIT6,
                _ => 0,
            },
            gso_size: u16::from_ne_bytes([z0, z1]),
            headers: u16::from_ne_bytes([h0, h1]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected bytes were printed by a C program that includes linux/virtio_net.h, on a
    /// little-endian processor.
    #[test]
    #[cfg(target_endian = "little")]
    fn is_the_header_of_virtio() {
        let segment = Description {
            checksum: BLANK,
            checksum_start: 34,
            checksum_offset: 16,
            gso: SPLIT6,
            gso_size: 1448,
            headers: 66,
        };
        assert_eq!(segment.header(), [1, 4, 66, 0, 0xa8, 5, 34, 0, 16, 0]);
        let whole = Description { checksum: VERIFIED, gso_size: 9, headers: 9, ..segment };
        assert_eq!(Description { gso: 0, ..whole }.header(), [2, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Description::default().header(), [0; BYTES]);
    }

    #[test]
    fn comes_back_as_sent() {
        for checksum in 0..3 {
            for gso in 0..3 {
                let sent = Description {
                    checksum,
                    gso,
                    checksum_start: if checksum == BLANK { 0x1234 } else { 0 },
                    checksum_offset: if checksum == BLANK { 6 } else { 0 },
                    gso_size: if gso == 0 { 0 } else { 65_535 },
                    headers: if gso == 0 { 0 } else { 0x201 },
                };
                assert_eq!(Description::of(sent.header()), sent);
            }
        }
    }
}
