//! What layers over a connection have in common that only look at what is read, or at nothing.

/// Passes what is written to a layer on to the connection below, its field `io`.
macro_rules! writes_pass {
    ($layer:ident) => {
        writes_pass!($layer, tokio::io::AsyncWrite + Unpin);
    };
    ($layer:ident, $($below:tt)+) => {
        impl<I: $($below)+> tokio::io::AsyncWrite for $layer<I> {
            fn poll_write(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                std::pin::Pin::new(&mut self.io).poll_write(cx, buf)
            }

            fn poll_write_vectored(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bufs: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                std::pin::Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
            }

            fn is_write_vectored(&self) -> bool {
                self.io.is_write_vectored()
            }

            fn poll_flush(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::pin::Pin::new(&mut self.io).poll_flush(cx)
            }

            fn poll_shutdown(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::pin::Pin::new(&mut self.io).poll_shutdown(cx)
            }
        }
    };
}

/// Passes the end of a layer on to the connection below, its field `io`.
macro_rules! ends_pass {
    ($layer:ident) => {
        impl<I: crate::carried::Carried> crate::carried::Carried for $layer<I> {
            fn reset(&mut self) {
                self.io.reset();
            }

            fn end(&mut self) {
                self.io.end();
            }
        }
    };
}

pub(crate) use {ends_pass, writes_pass};
