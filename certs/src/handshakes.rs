//! Real TLS handshakes in memory, honest and hostile (SECURITY.md, rows 56 to 74).

mod honest;
mod hostile;
mod pipe;
