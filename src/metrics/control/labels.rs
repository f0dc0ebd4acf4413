//! The label values of the control plane's catalogue.

use crate::metrics::labels::label_values;

label_values! {
    /// The methods of the agent service, by name.
    pub enum RpcMethod {
        /// Since API version 2.0.
        GetManifest = "GetManifest",
        /// Since API version 2.0.
        GetServiceBanner = "GetServiceBanner",
        /// Since API version 2.0.
        UpdateStats = "UpdateStats",
        /// Since API version 2.0.
        UpdateLifecycle = "UpdateLifecycle",
        /// Since API version 2.0.
        BatchUpdateAppHealths = "BatchUpdateAppHealths",
        /// Since API version 2.0.
        UpdateStartup = "UpdateStartup",
        /// Since API version 2.0.
        BatchUpdateMetadata = "BatchUpdateMetadata",
        /// Since API version 2.0.
        BatchCreateLogs = "BatchCreateLogs",
        /// Since API version 2.1.
        GetAnnouncementBanners = "GetAnnouncementBanners",
        /// Since API version 2.3.
        ScriptCompleted = "ScriptCompleted",
        /// Since API version 2.4.
        GetResourcesMonitoringConfiguration = "GetResourcesMonitoringConfiguration",
        /// Since API version 2.4.
        PushResourcesMonitoringUsage = "PushResourcesMonitoringUsage",
        /// Since API version 2.4.
        ReportConnection = "ReportConnection",
        /// Since API version 2.6.
        CreateSubAgent = "CreateSubAgent",
        /// Since API version 2.6.
        DeleteSubAgent = "DeleteSubAgent",
        /// Since API version 2.6.
        ListSubAgents = "ListSubAgents",
        /// Since API version 2.7.
        ReportBoundaryLogs = "ReportBoundaryLogs",
        /// Since API version 2.8.
        UpdateAppStatus = "UpdateAppStatus",
        /// Since API version 2.10.
        PushContextState = "PushContextState",
        /// Any name that is none of these.
        Unknown = "unknown",
    }
}

label_values! {
    /// How a call was answered.
    pub enum RpcOutcome {
        /// With a message.
        Ok = "ok",
        /// With an error: the request is at fault, or the control plane is.
        Error = "error",
        /// The method does not exist, or not here.
        Unimplemented = "unimplemented",
        /// Not at all: the agent gave up, or its connection went away.
        Cancelled = "cancelled",
    }
}

label_values! {
    /// Why a dial of an agent was refused.
    pub enum DialRefusal {
        /// 401 or UNAUTHENTICATED: there is no token.
        NoToken = "no_token",
        /// 401 or UNAUTHENTICATED: the token is no UUID.
        MalformedToken = "malformed_token",
        /// 401 or UNAUTHENTICATED: no agent has the token.
        UnknownToken = "unknown_token",
        /// 400: the API version is not spoken.
        Version = "version",
        /// 400, 405 or 426: no WebSocket is asked for.
        Upgrade = "upgrade",
        /// 403: a browser of another site.
        Origin = "origin",
        /// 503 or UNAVAILABLE: the agent has too many connections.
        TooMany = "too_many",
        /// No HTTP request, one whose head is too large, or one that did not come in time.
        Malformed = "malformed",
        /// No TLS handshake, or one that did not end in time.
        Tls = "tls",
    }
}

label_values! {
    /// What a peer did that ended its session or its stream.
    pub enum ProtocolFault {
        /// Not a WebSocket message, a text message, or one that is too large; the session ends.
        WebSocket = "websocket",
        /// A yamux frame that cannot be; the session ends.
        YamuxFrame = "yamux_frame",
        /// A yamux stream with an even id; the session ends.
        YamuxStreamId = "yamux_stream_id",
        /// A yamux stream whose id is in use; the session ends.
        YamuxStreamInUse = "yamux_stream_in_use",
        /// More data on a yamux stream than was granted; the session ends.
        YamuxWindow = "yamux_window",
        /// A yamux stream closed twice; the session ends.
        YamuxSecondFin = "yamux_second_fin",
        /// Yamux streams that are never ended; the session ends.
        YamuxAbandoned = "yamux_abandoned",
        /// More yamux streams at a time than are served; each is reset.
        YamuxTooManyStreams = "yamux_too_many_streams",
        /// Frames that make no dRPC packet, or one that must not come; the stream ends.
        Drpc = "drpc",
        /// A stream on which nothing came, or whose answer was not taken, for too long; it is reset.
        IdleStream = "idle_stream",
        /// HTTP/2 frames that cannot be; the connection ends, or the stream if only that is wrong.
        Http2Frame = "http2_frame",
        /// More data on an HTTP/2 connection or stream than was granted; it ends.
        Http2Window = "http2_window",
        /// So many resets, small frames or header fields that they cost more than they are worth; the connection ends.
        Http2Flood = "http2_flood",
        /// A body that is not one gRPC message; the call ends.
        GrpcMessage = "grpc_message",
    }
}

label_values! {
    /// How a session ended.
    pub enum SessionEnd {
        /// By the agent, in order or by closing the connection.
        Agent = "agent",
        /// Because the control plane stopped.
        Stopped = "stopped",
        /// Because too many agents shared an HTTP/2 connection, and another needed the place.
        Displaced = "displaced",
        /// Because pings were not answered.
        Silent = "silent",
        /// Because the agent broke the protocol.
        Protocol = "protocol",
        /// Because the connection failed.
        Failed = "failed",
    }
}

label_values! {
    /// What became of a report of metrics.
    pub enum ReportOutcome {
        /// It was, or will be, stored, but for the samples that are refused one by one.
        Accepted = "accepted",
        /// It was dropped as a whole: too much waits to be stored, in all or of its agent.
        Dropped = "dropped",
    }
}

label_values! {
    /// Why a sample in a report was refused.
    pub enum SampleRefusal {
        /// The name is empty, too long, or has characters that no name has.
        InvalidName = "invalid_name",
        /// The name is one of the control plane's own.
        ReservedName = "reserved_name",
        /// A label is twice there, has a name that none may have, or there is too much of them.
        InvalidLabel = "invalid_label",
        /// A label that the control plane itself adds.
        ReservedLabel = "reserved_label",
        /// Neither a counter nor a gauge, or not what the series of that name are.
        Type = "type",
        /// A counter that is negative, infinite or no number.
        InvalidValue = "invalid_value",
        /// There are too many series, in all or of its agent.
        MaxSeries = "max_series",
    }
}
