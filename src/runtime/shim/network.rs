//! A network with nothing but `lo`: a namespace of its own, and the one interface in it switched on.

use std::io;
use std::path::PathBuf;

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
    socket,
};
use std::os::fd::AsRawFd;

/// Moves this process into a new network namespace, switches `lo` on, and returns the path of the namespace.
pub(super) fn make_lone() -> io::Result<PathBuf> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    switch_loopback_on()?;
    Ok(PathBuf::from(format!(
        "/proc/{}/ns/net",
        std::process::id()
    )))
}

/// `lo` is the first interface of every network namespace.
const LOOPBACK: i32 = 1;

/// Asks by netlink, which needs no `unsafe` as the older ioctl does.
fn switch_loopback_on() -> io::Result<()> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    sendto(
        netlink.as_raw_fd(),
        &set_up(LOOPBACK),
        &NetlinkAddr::new(0, 0),
        MsgFlags::empty(),
    )?;
    let mut answer = [0u8; 256];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // struct nlmsghdr (16 bytes, its type at 4), then the error number, zero for done.
    let kind = answer
        .get(4..6)
        .and_then(|b| b.try_into().ok())
        .map(u16::from_ne_bytes);
    let error = answer
        .get(16..20)
        .and_then(|b| b.try_into().ok())
        .map(i32::from_ne_bytes);
    match (length >= 20, kind, error) {
        (true, Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (true, Some(NLMSG_ERROR), Some(error)) => {
            Err(io::Error::from_raw_os_error(error.saturating_neg()))
        }
        _ => Err(io::Error::other(
            "the kernel did not answer as netlink answers",
        )),
    }
}

const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
/// `NLM_F_REQUEST | NLM_F_ACK`
const REQUEST_AND_ANSWER: u16 = 0x1 | 0x4;
/// `IFF_UP`
const UP: u32 = 1;

/// `struct nlmsghdr` and `struct ifinfomsg`: the interface's flag UP, and no other flag, set.
fn set_up(interface: i32) -> Vec<u8> {
    let mut message = Vec::with_capacity(32);
    message.extend(32u32.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(REQUEST_AND_ANSWER.to_ne_bytes());
    message.extend(1u32.to_ne_bytes()); // sequence
    message.extend(0u32.to_ne_bytes()); // to the kernel
    message.extend([0, 0]); // family, padding
    message.extend(0u16.to_ne_bytes()); // device type
    message.extend(interface.to_ne_bytes());
    message.extend(UP.to_ne_bytes()); // flags
    message.extend(UP.to_ne_bytes()); // which of them change
    message
}
