//! `weir run` as users run it: the program itself, senders on its audit socket, and a control plane built from
//! the real Go libraries.
//!
//! Every page that a test scrapes is checked for the conservation law; see `support::page`.

mod delivery;
mod million;
mod stop;
