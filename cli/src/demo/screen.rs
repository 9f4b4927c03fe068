//! What is shown while the demo runs: a table that is drawn anew each second in a terminal, or
//! now and then a line where there is none.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::figures::{Figures, to_float};
use super::text::{milliseconds, percent, row, span};

/// All that is shown at one moment.
#[derive(Debug)]
pub(crate) struct View<'a> {
    /// How long the demo has run.
    pub(crate) elapsed: Duration,
    /// How long it is to run, if not without end.
    pub(crate) length: Option<Duration>,
    /// Requests of the client.
    pub(crate) requests: u64,
    /// Those of them that failed.
    pub(crate) failures: u64,
    /// The services.
    pub(crate) services: Vec<ServiceView>,
    /// What went wrong for the client, and how often.
    pub(crate) errors: &'a BTreeMap<String, u64>,
    /// What happened on purpose: when, and what.
    pub(crate) news: &'a [(Duration, String)],
    /// What to try, and where to find things.
    pub(crate) hints: &'a [String],
}

/// One service at one moment.
#[derive(Debug)]
pub(crate) struct ServiceView {
    /// Its name.
    pub(crate) name: &'static str,
    /// How it fared lately.
    pub(crate) figures: Figures,
    /// Over how long a time.
    pub(crate) over: Duration,
    /// Its replicas: name, state, what is peculiar about them.
    pub(crate) replicas: Vec<(&'static str, String, &'static str)>,
}

impl ServiceView {
    fn per_second(&self, count: u64) -> String {
        match self.over.as_secs_f64() {
            0.0 => "-".into(),
            seconds => format!("{:.1}", to_float(count) / seconds),
        }
    }

    fn success(&self) -> String {
        let good = self.figures.requests.saturating_sub(self.figures.failures);
        percent(super::figures::share(good, self.figures.requests))
    }

    fn replicas(&self) -> String {
        let replicas = self.replicas.iter().map(|(name, state, quirk)| match *quirk {
            "" => format!("{name} {state}"),
            quirk => format!("{name} {state} ({quirk})"),
        });
        replicas.collect::<Vec<_>>().join(", ")
    }
}

const WIDTHS: [usize; 7] = [8, 12, 9, 11, 11, 11, 9];
const HEAD: [&str; 7] = ["service", "requests/s", "success", "p50", "p99", "retries/s", "mTLS"];

/// How many of the news are shown.
const NEWS: usize = 3;

/// How many kinds of errors are shown.
const ERRORS: usize = 3;

/// The table.
fn frame(view: &View<'_>) -> Vec<String> {
    let of = view.length.map(|length| format!(" of {}", span(length))).unwrap_or_default();
    let mut lines = vec![
        format!(
            "Pillion demo, {}{of}: {} requests sent, {} failed",
            span(view.elapsed),
            view.requests,
            view.failures
        ),
        String::new(),
        row(WIDTHS, HEAD),
    ];
    for service in &view.services {
        let f = &service.figures;
        let cells = [
            service.name,
            &service.per_second(f.requests),
            &service.success(),
            &milliseconds(f.p50_seconds),
            &milliseconds(f.p99_seconds),
            &service.per_second(f.retries),
            &percent(f.mtls_share),
        ];
        lines.push(row(WIDTHS, cells));
        lines.push(format!("  {}", service.replicas()));
    }
    lines.push(String::new());
    lines.extend(messages(view));
    lines.extend_from_slice(view.hints);
    lines
}

/// What happened on purpose, and what went wrong, if anything did; and an empty line.
fn messages(view: &View<'_>) -> Vec<String> {
    let news = &view.news[view.news.len().saturating_sub(NEWS)..];
    let news = news.iter().map(|(at, what)| format!("{:>11}  {what}", span(*at)));
    let errors = view.errors.iter().take(ERRORS).map(|(what, n)| format!("{n:>9} x  {what}"));
    let mut lines: Vec<_> = news.chain(errors).collect();
    if !lines.is_empty() {
        lines.push(String::new());
    }
    lines
}

/// The table in one line.
fn compact(view: &View<'_>) -> String {
    let services = view.services.iter().map(|service| {
        format!(
            "{} {}/s {} p99 {} retries {}/s mTLS {}",
            service.name,
            service.per_second(service.figures.requests),
            service.success(),
            milliseconds(service.figures.p99_seconds),
            service.per_second(service.figures.retries),
            percent(service.figures.mtls_share),
        )
    });
    let services = services.collect::<Vec<_>>().join(" | ");
    format!(
        "{:>5}  {services} | {} sent, {} failed",
        span(view.elapsed),
        view.requests,
        view.failures
    )
}

/// Where the table goes.
#[derive(Debug)]
pub(crate) struct Screen {
    is_live: bool,
    /// Lines of the table that stands there now.
    drawn: usize,
    /// When a line was written last.
    written: Option<Duration>,
    /// How many of the news were written.
    told: usize,
}

/// The time from one line to the next where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(3);

impl Screen {
    /// A table on standard output if that is a terminal and is not kept for the summary as JSON;
    /// lines on standard error otherwise.
    pub(crate) fn new(json: bool) -> Self {
        let is_live = !json && io::stdout().is_terminal();
        Self { is_live, drawn: 0, written: None, told: 0 }
    }

    /// Begins: where the table is not drawn anew, the hints are written once.
    pub(crate) fn begin(&self, hints: &[String]) {
        if !self.is_live {
            write_all(&mut io::stderr(), &format!("\n{}\n\n", hints.join("\n")));
        }
    }

    /// Shows the state of things.
    pub(crate) fn show(&mut self, view: &View<'_>) {
        if self.is_live {
            let lines = frame(view);
            write_all(&mut io::stdout(), &redraw(self.drawn, &lines));
            self.drawn = lines.len();
            return;
        }
        let mut lines: Vec<_> = view.news[self.told..]
            .iter()
            .map(|(at, what)| format!("{:>5}  {what}\n", span(*at)))
            .collect();
        self.told = view.news.len();
        if self.written.is_none_or(|written| view.elapsed >= written + BETWEEN_LINES) {
            lines.push(compact(view) + "\n");
            self.written = Some(view.elapsed);
        }
        write_all(&mut io::stderr(), &lines.concat());
    }
}

/// The lines in the place of those drawn before. Lines too long for the terminal are cut by it,
/// for wrapped ones could not be counted.
fn redraw(drawn: usize, lines: &[String]) -> String {
    let mut text = String::from("\x1b[?7l");
    if drawn > 0 {
        text += &format!("\x1b[{drawn}A");
    }
    for line in lines {
        text += &format!("\r\x1b[2K{line}\n");
    }
    text + "\x1b[J\x1b[?7h"
}

/// Nobody listening any more is no reason to stop: the children are ended in order.
fn write_all(to: &mut impl Write, text: &str) {
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static ERROR: LazyLock<BTreeMap<String, u64>> =
        LazyLock::new(|| BTreeMap::from([("503: oh".to_owned(), 1)]));

    fn view<'a>(news: &'a [(Duration, String)], hints: &'a [String]) -> View<'a> {
        let figures = Figures {
            requests: 500,
            failures: 1,
            mutual: 500,
            mtls_share: Some(1.0),
            retries: 36,
            ejections: 0,
            p50_seconds: Some(0.0031),
            p99_seconds: Some(0.0612),
        };
        let replicas = vec![("api-1", "killed".into(), ""), ("api-2", "ready".into(), "slow")];
        let over = Duration::from_secs(5);
        View {
            elapsed: Duration::from_millis(12_300),
            length: Some(Duration::from_secs(30)),
            requests: 1234,
            failures: 1,
            services: vec![
                ServiceView { name: "api", figures, over, replicas },
                ServiceView { name: "echo", figures: Figures::default(), over, replicas: vec![] },
            ],
            errors: &ERROR,
            news,
            hints,
        }
    }

    #[test]
    fn the_table_of_a_moment() {
        let news = [(Duration::from_secs(10), "killed api-1".to_owned())];
        let hints = ["Try: curl".to_owned()];
        let expected = [
            "Pillion demo, 12 s of 30 s: 1234 requests sent, 1 failed",
            "",
            "service   requests/s  success        p50        p99  retries/s     mTLS",
            "api            100.0   99.8 %    3.10 ms    61.2 ms        7.2    100 %",
            "  api-1 killed, api-2 ready (slow)",
            "echo             0.0        -          -          -        0.0        -",
            "  ",
            "",
            "       10 s  killed api-1",
            "        1 x  503: oh",
            "",
            "Try: curl",
        ];
        assert_eq!(frame(&view(&news, &hints)), expected);
    }

    #[test]
    fn a_line_of_a_moment() {
        let mut view = view(&[], &[]);
        view.services.truncate(1);
        assert_eq!(
            compact(&view),
            " 12 s  api 100.0/s 99.8 % p99 61.2 ms retries 7.2/s mTLS 100 % | 1234 sent, 1 failed"
        );
    }

    #[test]
    fn the_table_is_drawn_in_the_place_of_the_one_before() {
        let lines = ["a".to_owned(), "b".to_owned()];
        let first = "\x1b[?7l\r\x1b[2Ka\n\r\x1b[2Kb\n\x1b[J\x1b[?7h";
        assert_eq!(redraw(0, &lines), first);
        assert_eq!(redraw(2, &lines), first.replacen("\x1b[?7l", "\x1b[?7l\x1b[2A", 1));
    }
}
