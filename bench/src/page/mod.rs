//! Results of `cluster`, `compare`, `floor` and `tune` as one page of HTML that needs nothing else.
//!
//! `load` reads files into what `input` says they hold; `model` sorts all of it. Each section of
//! the page is a file: `head`, `headline`, `inflight`, `rates`, `curves`, `cost`, `ratios`,
//! `floor`, `tuning`, `settings`, `numbers`. They draw with `rows` and `lines` (kinds of charts,
//! made with `svg`), `parts` (HTML) and `text` (numbers).

mod cost;
mod curves;
mod floor;
mod head;
mod headline;
mod inflight;
mod input;
mod lines;
mod load;
mod model;
mod numbers;
mod parts;
mod rates;
mod ratios;
mod rows;
mod settings;
mod svg;
mod text;
mod tuning;

use std::io::Write as _;

use anyhow::Context;

use crate::args::ReportArgs;
use load::Source;
use model::Model;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
/// Nothing is fetched from anywhere, whatever a result's names are.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// Reads the files and writes the page.
pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<bool> {
    let sources = args.files.iter().map(|path| Source::read(path));
    let page = page(&Model::new(sources.collect::<anyhow::Result<_>>()?));
    if args.out.as_os_str() == "-" {
        std::io::stdout().write_all(page.as_bytes())?;
    } else {
        let out = args.out.display();
        std::fs::write(&args.out, page).with_context(|| format!("writing {out}"))?;
        eprintln!("wrote {out}");
    }
    Ok(true)
}

fn page(model: &Model) -> String {
    let sections = [
        headline::draw(model),
        inflight::draw(model),
        rates::draw(model),
        curves::draw(model),
        cost::draw(model),
        ratios::draw(model),
        floor::draw(&model.floors),
        tuning::draw(&model.tunings),
        settings::draw(model),
        numbers::draw(model),
    ];
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <title>Ringleader, measured</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{}<main>\n\
         {}</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        head::draw(model),
        sections.concat()
    )
}

#[cfg(test)]
mod tests;
