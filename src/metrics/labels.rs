//! The label values of the catalogue, as types: what is not listed here cannot be counted.

/// An enum whose variants are the values of one label; each value is spelled once.
macro_rules! label_values {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every variant, in the order of [`Self::VALUES`].
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// Every value that the label takes.
            pub const VALUES: &'static [&'static str] = &[$($value,)+];

            /// The value as it is scraped.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $value,)+ }
            }
        }
    };
}

pub(super) use label_values;

label_values! {
    /// Why a batch that was received will never be delivered.
    pub enum DropReason {
        /// The buffer had no room, under the policy that was chosen.
        BufferFull = "buffer_full",
        /// The control plane will not take it.
        ForwardFailed = "forward_failed",
        /// The spool had no room.
        SpoolFull = "spool_full",
        /// A record of the spool was damaged.
        SpoolCorrupt = "spool_corrupt",
        /// Older than the age to which delivery is tried.
        Expired = "expired",
        /// Still held when the drain deadline passed.
        Shutdown = "shutdown",
    }
}

label_values! {
    /// Why a frame carried nothing usable.
    pub enum FrameFault {
        /// A tag that is neither 1 nor 2; the connection is closed.
        Tag = "tag",
        /// A declared length over 32 KiB; the connection is closed.
        TooLarge = "too_large",
        /// The connection ended, or failed, inside a frame.
        Truncated = "truncated",
        /// Not a protobuf message that a Go peer would decode; the connection goes on.
        Undecodable = "undecodable",
        /// A V2 envelope with neither logs nor status; the connection goes on.
        Empty = "empty",
    }
}

label_values! {
    /// What a dial came to.
    pub enum DialOutcome {
        /// The connection stands.
        Connected = "connected",
        /// No TCP connection: name not found, refused, reset, or refused by the proxy.
        Unreachable = "unreachable",
        /// The TLS handshake failed.
        Tls = "tls",
        /// 401 or 403, UNAUTHENTICATED or PERMISSION_DENIED: the token is not accepted, or not yet.
        Unauthorized = "unauthorized",
        /// 400: the API version is not supported.
        Version = "version",
        /// Any other answer that is not the expected one.
        Http = "http",
        /// Nothing was answered in time.
        Timeout = "timeout",
    }
}

label_values! {
    /// What was seen of an attempt of a call.
    pub enum AttemptOutcome {
        /// Answered with a message.
        Accepted = "accepted",
        /// Certainly not seen by the control plane; made again.
        Retry = "retry",
        /// Answered with an error.
        Refused = "refused",
        /// The control plane does not have the method.
        Rejected = "rejected",
        /// Written, and no usable answer came.
        Ambiguous = "ambiguous",
    }
}

label_values! {
    /// What became of a report of a script's run.
    pub enum ScriptReportOutcome {
        /// It was counted.
        Counted = "counted",
        /// It had been counted before.
        Repeated = "repeated",
        /// It was none, and counts as no run.
        Invalid = "invalid",
        /// It had to go from the full queue of `weir exec`, and counts as no run.
        QueueFull = "queue_full",
    }
}

label_values! {
    /// What became of a run that the control plane is to be told of.
    pub enum CompletionOutcome {
        /// The control plane acknowledged it.
        Delivered = "delivered",
        /// The control plane refused it three times.
        Refused = "refused",
        /// The same, after an attempt of unknown fate: it refuses what it has already.
        Uncertain = "uncertain",
        /// The control plane does not have the method.
        Rejected = "rejected",
        /// Too many others were waiting.
        Overflow = "overflow",
    }
}

label_values! {
    /// Why a series is not reported to the control plane.
    pub enum SampleFault {
        /// A name that belongs to the control plane, to the workspace agent, or to Weir itself.
        ReservedName = "reserved_name",
        /// A label that the control plane adds itself, or one that begins with `__`.
        ReservedLabel = "reserved_label",
        /// A name, or the name of a label, outside the charset, or a label that is there twice.
        InvalidName = "invalid_name",
        /// A histogram or summary: a report has no place for one.
        Histogram = "histogram",
        /// Another type than the series before it under the same name, or the same series once more.
        Conflict = "conflict",
        /// Beyond the bounds of a report.
        MaxSeries = "max_series",
    }
}
