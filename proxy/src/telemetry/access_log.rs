//! The access log: one JSON object a line for each request or connection, to standard error.
//!
//! A thread of its own writes, behind a bounded queue: a slow reader of standard error costs
//! lines (counted), never a request's time.

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use model::code::ErrorCode;
use prometheus::IntCounter;
use serde::Serialize;

use crate::args::AccessLog as Which;

/// Lines that may wait to be written.
const QUEUE: usize = 4096;

/// Longest text of a client's that is logged, in bytes (the path).
const LONGEST_FIELD: usize = 1024;

/// What is written of a request or a connection.
#[derive(Debug, Serialize)]
#[allow(missing_docs)] // the names are the documentation: they are what operators read
pub struct Line<'a> {
    pub timestamp: String,
    pub direction: &'static str,
    pub protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<&'a str>,
    pub service: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub route: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorCode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<&'a str>,
    pub tls: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<&'a str>,
    pub attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_bytes: Option<u64>,
    pub sent_bytes: u64,
    pub duration_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

/// Where lines go, if anywhere.
#[derive(Debug)]
pub struct AccessLog {
    which: Which,
    queue: Option<SyncSender<Vec<u8>>>,
    dropped: IntCounter,
}

impl AccessLog {
    /// Starts the writer, unless the log is off. `dropped` counts lines that found the queue full.
    pub fn start(which: Which, dropped: IntCounter) -> Self {
        let queue = (which != Which::Off).then(|| {
            let (queue, lines) = sync_channel(QUEUE);
            std::thread::spawn(move || write_all(&lines));
            queue
        });
        Self { which, queue, dropped }
    }

    /// Whether a request or connection with this end is logged.
    pub fn wants(&self, failed: bool) -> bool {
        match self.which {
            Which::Off => false,
            Which::Errors => failed,
            Which::All => true,
        }
    }

    /// Queues one line.
    pub fn write(&self, line: &Line<'_>) {
        let Some(queue) = &self.queue else { return };
        // Only maps with other keys than text can fail to become JSON, and this is no map.
        let Ok(mut bytes) = serde_json::to_vec(line) else { return };
        bytes.push(b'\n');
        if queue.try_send(bytes).is_err() {
            self.dropped.inc();
        }
    }
}

/// A client's text, cut to what a log line bears. JSON escapes its controls.
pub fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_FIELD)]
}

fn write_all(lines: &Receiver<Vec<u8>>) {
    while let Ok(line) = lines.recv() {
        // Nobody reads standard error any more: requests go on without a log.
        let _ = std::io::stderr().lock().write_all(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_keeps_characters_whole() {
        let text = format!("{}ä", "a".repeat(LONGEST_FIELD - 1));
        assert_eq!(cut(&text).len(), LONGEST_FIELD - 1);
        assert_eq!(cut("/short"), "/short");
    }

    #[test]
    fn which_lines_are_wanted() {
        let dropped = IntCounter::new("a", "a").unwrap();
        let log = |which| AccessLog { which, queue: None, dropped: dropped.clone() };
        for (which, failed, good) in
            [(Which::Off, false, false), (Which::Errors, true, false), (Which::All, true, true)]
        {
            assert_eq!((log(which).wants(true), log(which).wants(false)), (failed, good));
        }
    }
}
