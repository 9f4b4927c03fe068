//! Which functions cost most.

use rustc_demangle::demangle;

use crate::callgrind::Profile;

/// Prints the `most` functions with the highest cost of their own, for one of `requests`.
pub(super) fn print(profile: &Profile, requests: u64, most: usize) {
    let each = |count: u64| count as f64 / requests as f64;
    println!("{:>10.0} instructions a request, of which", each(profile.instructions));
    println!("{:>10} {:>6} {:>8}  function", "own", "share", "calls");
    let mut functions: Vec<_> = profile.functions.iter().collect();
    functions.sort_by_key(|(_, function)| std::cmp::Reverse(function.own));
    for (name, function) in functions.into_iter().take(most) {
        let share = 100.0 * function.own as f64 / profile.instructions as f64;
        let (own, calls) = (each(function.own), each(function.calls()));
        println!("{own:>10.0} {share:>5.1}% {calls:>8.2}  {:#}", demangle(name));
    }
}

/// Prints who calls the functions whose names contain `text`, for one of `requests`.
pub(super) fn print_callers(profile: &Profile, requests: u64, text: &str) {
    let each = |count: u64| count as f64 / requests as f64;
    let named = |name: &str| format!("{:#}", demangle(name));
    for (name, function) in profile.functions.iter().filter(|(name, _)| named(name).contains(text))
    {
        println!("\n{:>10} {:>8}  callers of {}", "with all", "calls", named(name));
        let mut callers: Vec<_> = function.callers.iter().collect();
        callers.sort_by_key(|(_, calls)| std::cmp::Reverse(calls.instructions));
        for (caller, calls) in callers {
            let (all, count, caller) = (each(calls.instructions), each(calls.count), named(caller));
            println!("{all:>10.0} {count:>8.2}  {caller}");
        }
    }
}
