//! docs/flags.md has every flag of both programs, as their definitions have it.

use clap::{Arg, Command, CommandFactory};
use leadergroup::settings::{ElectorSettings, OperatorSettings};

use super::{compare, page, row};

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// How a flag is given, where else it can be set, what it is if it is not, and what it does.
fn describe(flag: &Arg) -> String {
    let long = format!("--{}", flag.get_long().unwrap());
    let value = flag.get_action().takes_values().then(|| flag.get_value_names().unwrap_or_default().first().map_or_else(String::new, ToString::to_string));
    let value = value.map_or_else(String::new, |value| {
        let possible: Vec<_> = flag.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        format!("={}", if possible.is_empty() { value } else { possible.join("|") })
    });
    let short = flag.get_short().map_or_else(String::new, |letter| format!(", {}", code(&format!("-{letter}"))));
    let environment = flag.get_env().map_or_else(String::new, |name| code(&name.to_string_lossy()));
    let default: Vec<_> = flag.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    let default = if default.is_empty() { String::new() } else { code(&default.join(",")) };
    let help = flag.get_long_help().or_else(|| flag.get_help()).map(ToString::to_string).unwrap_or_default().replace('\n', " ");
    let end = if help.ends_with('.') { "" } else { "." };
    row(&[&format!("{}{short}", code(&format!("{long}{value}"))), &environment, &default, &format!("{help}{end}")])
}

fn flags(command: &Command) -> Vec<&Arg> {
    command.get_arguments().filter(|flag| flag.get_long().is_some() && !flag.is_hide_set()).collect()
}

fn table<'a>(flags: impl IntoIterator<Item = &'a Arg>) -> String {
    let rows: String = flags.into_iter().map(describe).collect();
    format!("| Flag | Environment | Default | |\n|---|---|---|---|\n{rows}")
}

/// The elector's subcommands, with their flags.
fn elector() -> (Command, Command) {
    let mut program = ElectorSettings::command();
    program.build();
    let subcommand = |name: &str| program.find_subcommand(name).unwrap().clone();
    (subcommand("serve"), subcommand("run"))
}

/// Flags that both have.
fn common<'a>(one: &'a Command, other: &Command) -> (Vec<&'a Arg>, Vec<&'a Arg>) {
    flags(one).into_iter().filter(|flag| flag.get_long() != Some("help")).partition(|flag| flags(other).iter().any(|it| it.get_long() == flag.get_long()))
}

#[test]
fn every_flag_of_the_operator_is_documented_as_it_is_defined() {
    compare("flags.md", "leadergroup-operator", &table(flags(&OperatorSettings::command())));
}

#[test]
fn every_flag_of_the_elector_is_documented_as_it_is_defined() {
    let (serve, run) = elector();
    let (both, sidecar) = common(&serve, &run);
    let (_, wrapper) = common(&run, &serve);
    compare("flags.md", "leadergroup-elector", &table(both));
    compare("flags.md", "leadergroup-elector serve", &table(sidecar));
    compare("flags.md", "leadergroup-elector run", &table(wrapper));
}

/// What looks like a flag of ours.
fn mentioned(text: &str) -> Vec<String> {
    let name = |after: &str| after.chars().take_while(|letter| letter.is_ascii_lowercase() || *letter == '-').collect::<String>();
    text.split("`--").skip(1).map(|after| name(after).trim_end_matches('-').to_owned()).filter(|name| !name.is_empty()).collect()
}

#[test]
fn no_page_names_a_flag_that_there_is_not() {
    // Of other programs: kubectl, cargo, the old leader-elector, the API server, kube-state-metrics.
    const OTHERS: [&str; 9] =
        ["election", "election-namespace", "http", "locked", "watch-cache-sizes", "cascade", "replicas", "validate", "metric-labels-allowlist"];
    let (serve, run) = elector();
    let operator = OperatorSettings::command();
    let known: Vec<_> = [&operator, &serve, &run].into_iter().flat_map(flags).filter_map(Arg::get_long).collect();
    for file in ["running.md", "elector.md", "flags.md", "metrics.md", "argocd.md", "../README.md", "../SECURITY.md"] {
        for flag in mentioned(&page(file)) {
            // A family of flags is named by its beginning.
            let is_known = known.iter().any(|name| *name == flag || name.starts_with(&format!("{flag}-")));
            assert!(is_known || OTHERS.contains(&&*flag), "docs/{file} names --{flag}");
        }
    }
}
