//! The network interface of a TAP device: /dev/net/tun and its ioctls, from
//! include/uapi/linux/if_tun.h, and those of interfaces, from netdevice(7).

use std::ffi::c_char;
use std::mem::zeroed;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

use libc::{
    IFF_MULTI_QUEUE, IFF_NO_PI, IFF_TAP, IFF_UP, IFF_VNET_HDR, IFNAMSIZ, SIOCGIFFLAGS,
    SIOCSIFFLAGS, SIOCSIFMTU, TUNGETIFF, TUNSETCARRIER, TUNSETIFF, TUNSETOFFLOAD, TUNSETPERSIST,
    c_int, ifreq,
};
use rustix::io::Errno;
use rustix::ioctl::{IntegerSetter, Opcode, ioctl};

use crate::device::{Device, call};
use crate::errors::{Result, os, out_of_range};

const PATH: &str = "/dev/net/tun";

/// An open queue of a TAP device. The interface ends with its last queue unless it is persistent.
pub struct Interface {
    device: Device,
}

impl Interface {
    /// Creates the interface, or attaches to an existing one. Of `%d` in `name`, the kernel makes a
    /// number.
    pub fn open(name: &str, multi_queue: bool) -> Result<Self> {
        let mut request = request(name)?;
        let device = Device::open(PATH)?;
        let flags =
            IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | if multi_queue { IFF_MULTI_QUEUE } else { 0 };
        request.ifr_ifru.ifru_flags = flags as _;
        // SAFETY: TUNSETIFF takes an ifreq.
        unsafe { device.ioctl(TUNSETIFF as Opcode, &mut request) }
            .map_err(os(format!("TUNSETIFF \"{name}\"")))?;
        Ok(Self { device })
    }

    /// The queue's device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The interface's name now: it may be renamed while it is down.
    pub fn name(&self) -> Result<String> {
        let name = self.request()?.ifr_name.map(|char| char as u8);
        Ok(String::from_utf8_lossy(name.split(|&byte| byte == 0).next().unwrap_or(&name))
            .into_owned())
    }

    /// A request that names the interface.
    fn request(&self) -> Result<ifreq> {
        // SAFETY: all fields of the struct are numbers, for which 0 is valid.
        let mut request: ifreq = unsafe { zeroed() };
        // SAFETY: TUNGETIFF fills an ifreq.
        unsafe { self.device.ioctl(TUNGETIFF as Opcode, &mut request) }.map_err(os("TUNGETIFF"))?;
        Ok(request)
    }

    /// Sets which incomplete frames the queue's reader takes: a union of `TUN_F_*`.
    pub fn set_offloads(&self, flags: u32) -> Result<()> {
        self.set::<{ TUNSETOFFLOAD as Opcode }>("TUNSETOFFLOAD", flags as usize)
    }

    /// Sets whether the interface stays when its last queue is closed.
    pub fn set_persistent(&self, on: bool) -> Result<()> {
        self.set::<{ TUNSETPERSIST as Opcode }>("TUNSETPERSIST", usize::from(on))
    }

    fn set<const OPCODE: Opcode>(&self, operation: &str, value: usize) -> Result<()> {
        // SAFETY: both ioctls take a number in place of a pointer.
        unsafe { ioctl(self.device.as_fd(), IntegerSetter::<OPCODE>::new_usize(value)) }
            .map_err(os(operation))
    }

    /// Tells the kernel whether the interface's cable is plugged in at the far end.
    pub fn set_carrier(&self, on: bool) -> Result<()> {
        let mut value = c_int::from(on);
        // SAFETY: TUNSETCARRIER takes an int.
        unsafe { self.device.ioctl(TUNSETCARRIER as Opcode, &mut value) }
            .map_err(os("TUNSETCARRIER"))?;
        Ok(())
    }

    /// Sets whether the interface is up: frames flow only then.
    pub fn set_up(&self, up: bool) -> Result<()> {
        let mut request = self.request()?;
        configure("SIOCGIFFLAGS", SIOCGIFFLAGS as Opcode, &mut request)?;
        // SAFETY: the ioctl has set the flags, and any bits are valid flags.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        let bit = IFF_UP as i16;
        request.ifr_ifru.ifru_flags = if up { flags | bit } else { flags & !bit };
        configure("SIOCSIFFLAGS", SIOCSIFFLAGS as Opcode, &mut request)
    }

    /// Sets the most bytes of a frame without its Ethernet header.
    pub fn set_mtu(&self, mtu: u32) -> Result<()> {
        let mut request = self.request()?;
        request.ifr_ifru.ifru_mtu = mtu as c_int;
        configure(&format!("SIOCSIFMTU {mtu}"), SIOCSIFMTU as Opcode, &mut request)
    }
}

/// Performs an ioctl on the interface that `request` names. Every socket takes these ioctls.
fn configure(operation: &str, opcode: Opcode, request: &mut ifreq) -> Result<()> {
    let socket = UnixDatagram::unbound()
        .map_err(|error| os("socket")(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    // SAFETY: the ioctl takes an ifreq.
    unsafe { call(&socket, opcode, request) }.map_err(os(operation))?;
    Ok(())
}

/// A request that names an interface.
fn request(name: &str) -> Result<ifreq> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() >= IFNAMSIZ || bytes.contains(&0) {
        return Err(out_of_range(format!(
            "the name of an interface has 1..{} bytes, got \"{name}\"",
            IFNAMSIZ - 1
        )));
    }
    // SAFETY: all fields of the struct are numbers, for which 0 is valid.
    let mut request: ifreq = unsafe { zeroed() };
    for (to, &from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = from as c_char;
    }
    Ok(request)
}
