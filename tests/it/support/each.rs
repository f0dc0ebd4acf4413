//! One scenario on several control planes.

/// Runs scenarios, which are functions of a [`Plane`](crate::support::plane::Plane), on each control plane.
macro_rules! on_each_plane {
    ($($scenario:ident),+ $(,)?) => {$(
        mod $scenario {
            use weir::upstream::Transport;

            #[tokio::test]
            async fn with_coderd() {
                if let Some(coderd) = crate::support::coderd::Coderd::start(&[]) {
                    super::$scenario(coderd).await;
                }
            }

            #[tokio::test]
            async fn with_grpc_go() {
                if let Some(server) = crate::support::coderd::Coderd::over(Transport::Grpc, &[]) {
                    super::$scenario(server).await;
                }
            }

            #[tokio::test]
            async fn with_weir() {
                super::$scenario(crate::support::plane::WeirPlane::start()).await;
            }

            #[tokio::test]
            async fn with_weir_over_grpc() {
                let plane = crate::support::plane::WeirPlane::over(Transport::Grpc);
                super::$scenario(plane).await;
            }
        }
    )+};
}

/// Runs scenarios, which are functions of a [`Coderd`](crate::support::coderd::Coderd), over each transport; with
/// flags of its own, as in `scenario("-rtt", "4ms")`.
macro_rules! over_each_transport {
    ($($scenario:ident $(($($flag:literal),+))?),+ $(,)?) => {$(
        mod $scenario {
            use crate::support::coderd::Coderd;
            use weir::upstream::Transport;

            const FLAGS: &[&str] = &[$($($flag),+)?];

            #[tokio::test]
            async fn over_websocket() {
                if let Some(coderd) = Coderd::over(Transport::WebSocket, FLAGS) {
                    super::$scenario(coderd).await;
                }
            }

            #[tokio::test]
            async fn over_grpc() {
                if let Some(server) = Coderd::over(Transport::Grpc, FLAGS) {
                    super::$scenario(server).await;
                }
            }
        }
    )+};
}
