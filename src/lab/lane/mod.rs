//! A lane: one freshly launched process that runs one arm.
//!
//! The program launches itself with a hidden subcommand and talks to it in lines of JSON: [`protocol`] is what they say,
//! [`host`] the parent's side, [`inside`] the lane's own. A lane ends when its standard input does, so none outlives a
//! parent that was killed.

pub mod host;
pub mod inside;
pub mod protocol;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where a lane and its receiver listen: loopback, any free port.
pub const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
