//! Settings of the `yamux` crate that a Go peer can live with.

use yamux::{Config, DEFAULT_CREDIT};

/// By how much the receive windows of all streams together may outgrow 256 KiB each. No window can then
/// pass 1 MiB, the largest frame that the crate takes: a Go peer fills a window with one frame.
const WINDOW_GROWTH: usize = 768 << 10;

/// Bytes of one frame: a quarter of the window that a Go peer grants. It returns credit only once half of the
/// window has been read (hashicorp/yamux stream.go), so what it has read of pieces of another size would be held
/// back in part, and a long way would be filled by little more than half.
pub const PIECE: usize = 64 << 10;

/// For a session in which the multiplexer knows at most `max_streams` streams; one more ends it.
pub fn config(max_streams: usize) -> Config {
    let mut config = Config::default();
    // In this order: each call checks the pair.
    config.set_max_num_streams(max_streams);
    config.set_max_connection_receive_window(Some(
        max_streams * DEFAULT_CREDIT as usize + WINDOW_GROWTH,
    ));
    config.set_split_send_size(PIECE);
    config
}
