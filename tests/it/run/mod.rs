//! `weir run` as users run it: the program itself, senders on its audit socket, and a control plane. That is
//! built from the real Go libraries; scenarios that need none of its faults run on `weir control-plane` too.
//!
//! Every page that a test scrapes is checked for the conservation law; see `support::page`.

mod delivery;
mod dials;
mod million;
mod outages;
mod policy;
mod reports;
mod senders;
mod signals;
mod slow;
mod spool;
mod spool_offline;
mod start;
mod status;
mod stop;
mod targets;

use url::Url;

/// Where nobody listens.
pub fn nobody() -> Url {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    format!("http://{address}").parse().unwrap()
}
