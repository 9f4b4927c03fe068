//! Which functions the linker puts side by side: those that every sidecar runs. The kernel maps a
//! program in pieces of 64 KiB around each page that is touched: functions that run, strewn among
//! those that seldom do, hold nearly all of it in memory.

mod symbols;

use std::collections::HashSet;
use std::path::PathBuf;

use ::tests::app::App;
use ::tests::bins;
use anyhow::{Context, bail, ensure};
use clap::ValueEnum;

use self::symbols::{Ran, Symbols};
use crate::app;
use crate::callgrind::made_with;
use crate::scene::{Case, Scene};

/// Requests of each case, by whose instructions functions are put in order.
const REQUESTS: u64 = 100;

/// How many of the functions that run may be missing in the file, in percent.
const MARGIN: usize = 10;

/// Connections of the burst.
const BURST: usize = 32;

/// Over how many functions those that requests run most may be spread in the program, and how many
/// these are. Where no linker has read the file it is most of the program's.
const SPREAD: usize = 1000;
const MOST: usize = 100;

/// How the file is brought up to date.
const COMMAND: &str = "tests/bench/run layout --update";

/// What stands before each name: its section is `.text.NAME`, or `.text.unlikely.NAME`.
const PREFIX: &str = "    *(.text*.";

/// What `layout` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write what ran into the file, in place of asking it.
    #[arg(long)]
    update: bool,
}

/// The file.
#[derive(Debug)]
struct Layout {
    /// The compiler, which may give other names.
    made_with: String,
    /// Functions by patterns of their names, in the order in which the linker puts them.
    functions: Vec<String>,
}

/// Runs two sidecars, and writes which functions ran or asks the file for them.
///
/// # Errors
/// When too many of them are not in it.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    crate::released()?;
    let symbols = Symbols::of(&bins::bins().proxy).await?;
    let (before, requests) = run_sidecars(&symbols).await?;
    let made_with = made_with().await?;
    if args.update {
        return Layout { made_with, functions: ordered(&before, &requests) }.write();
    }
    let layout = Layout::read()?;
    let lacking = layout.lacking(before.keys().chain(requests.keys()));
    let spread = symbols.spread(layout.functions.iter().take(MOST));
    match lacking.or_else(|| strewn(spread)) {
        Some(sentence) if layout.made_with == made_with => bail!(sentence),
        Some(sentence) => println!("{sentence}. The file is of {}", layout.made_with),
        None => println!("{} has what runs, side by side", file().display()),
    }
    Ok(())
}

/// What runs for requests, and what before them.
async fn run_sidecars(symbols: &Symbols) -> anyhow::Result<(Ran, Ran)> {
    let (mut before, mut requests) = (Ran::new(), Ran::new());
    // The first answers the same every time; the second has headers as applications have them, but
    // speaks neither gRPC nor bytes. It says what it hears, be it much.
    let apps = [
        (app::app(), Case::value_variants(), false),
        (App::http(), &[Case::Http1, Case::Http2, Case::Connection], true),
    ];
    for (app, cases, echoes) in apps {
        let mut scene = Scene::open(app).await?;
        for case in cases {
            let measured = scene.measure(*case, REQUESTS).await?;
            measured.sides().iter().for_each(|(_, profile)| symbols.add(profile, &mut requests));
        }
        if echoes {
            scene.burst(BURST).await?;
        }
        scene.into_uncounted().iter().for_each(|profile| symbols.add(profile, &mut before));
    }
    Ok((before, requests))
}

/// Says so if the linker has not put the functions side by side.
fn strewn(spread: usize) -> Option<String> {
    (spread > SPREAD).then(|| {
        format!(
            "the functions that run most are spread over {spread} of the sidecar's: its linker has not \
             read {} (see proxy/build.rs)",
            file().display()
        )
    })
}

/// Those of requests, the most instructions first, so that they share few pages; then the others.
fn ordered(before: &Ran, requests: &Ran) -> Vec<String> {
    let mut functions: Vec<_> = requests.iter().collect();
    functions.sort_by_key(|(name, own)| (std::cmp::Reverse(**own), *name));
    let mut others: Vec<_> = before.keys().filter(|name| !requests.contains_key(*name)).collect();
    others.sort();
    functions.into_iter().map(|(name, _)| name).chain(others).cloned().collect()
}

fn file() -> PathBuf {
    bins::workspace().join("proxy/layout.ld")
}

impl Layout {
    /// Reads the file.
    fn read() -> anyhow::Result<Self> {
        let path = file();
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let made_with = text.lines().find_map(|line| line.trim().strip_prefix("made with "));
        let lines = text.lines().filter_map(|line| line.strip_prefix(PREFIX));
        let functions: Vec<_> =
            lines.filter_map(|line| Some(line.strip_suffix(')')?.to_owned())).collect();
        ensure!(!functions.is_empty(), "no function in it");
        Ok(Self { made_with: made_with.context("no compiler in it")?.to_owned(), functions })
    }

    fn write(&self) -> anyhow::Result<()> {
        let path = file();
        std::fs::write(&path, self.text()).with_context(|| path.display().to_string())
    }

    /// As GNU's linker and LLVM's read it. What it says of `.text` comes before what they do by
    /// themselves; LLVM's makes one section of both.
    fn text(&self) -> String {
        let mut text = format!(
            "/* The functions that every sidecar runs, side by side: see layout of the bench.\n   \
             Written by {COMMAND},\n   made with {}\n*/\nSECTIONS {{\n  .text : {{\n",
            self.made_with
        );
        for name in &self.functions {
            text += &format!("{PREFIX}{name})\n");
        }
        text + "  }\n} INSERT BEFORE .init;\n"
    }

    /// Says so if too many of the functions that ran are not in the file.
    fn lacking<'a>(&self, ran: impl Iterator<Item = &'a String>) -> Option<String> {
        let ran: HashSet<_> = ran.collect();
        let lacking = ran.difference(&self.functions.iter().collect()).count();
        (lacking * 100 > ran.len() * MARGIN).then(|| {
            format!(
                "{lacking} of {} functions that ran are not in {}, and hold more of the program in \
                 memory than they need. To put them there: {COMMAND}",
                ran.len(),
                file().display()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(functions: &[&str]) -> Layout {
        let functions = functions.iter().map(|name| (*name).to_owned()).collect();
        Layout { made_with: "a compiler".to_owned(), functions }
    }

    #[test]
    fn what_requests_need_comes_first() {
        let ran = |functions: &[(&str, u64)]| {
            functions.iter().map(|(name, own)| ((*name).to_owned(), *own)).collect::<Ran>()
        };
        let before = ran(&[("main", 90), ("both", 90), ("args", 90)]);
        let requests = ran(&[("route", 5), ("both", 7), ("again", 5)]);
        assert_eq!(ordered(&before, &requests), ["both", "again", "route", "args", "main"]);
    }

    #[test]
    fn the_file_is_read_as_it_was_written() {
        let layout = layout(&["_ZN5proxy3run17h*E", "_rjem_malloc"]);
        let read = Layout::parse(&layout.text()).unwrap();
        assert_eq!((read.functions, read.made_with), (layout.functions, layout.made_with));
        assert!(Layout::parse("SECTIONS {}").is_err());
    }

    #[test]
    fn a_tenth_may_be_missing_in_the_file() {
        let ran: Vec<_> = (0..10).map(|number| format!("f{number}")).collect();
        let lacking = |known: &[&str]| layout(known).lacking(ran.iter());
        let known = ["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9"];
        assert_eq!(lacking(&known), None);
        assert_eq!(lacking(&known[1..]), None);
        let sentence = lacking(&known[2..]).unwrap();
        for part in ["2 of 10", "proxy/layout.ld", COMMAND] {
            assert!(sentence.contains(part), "{sentence}");
        }
    }
}
