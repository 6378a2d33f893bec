//! The head of the page: the machine, the files, the key of the engines, and what to keep in mind.

use super::input::Machine;
use super::model::{Engine, Model, Point};
use super::svg::{mark, shape};
use super::text::{bytes, escape, fit, plural};

pub(super) fn draw(model: &Model) -> String {
    let places = places(model).into_iter();
    let machines: String = places.map(|place| machine(place, programs(model, place))).collect();
    format!(
        "<header class=\"top\"><h1>Ringleader, measured</h1>\n{}{machines}{}</header>\n{}",
        files(model),
        notes(model),
        key(model)
    )
}

/// What was read, by command.
fn files(model: &Model) -> String {
    let of = |command: &str| {
        let names = model.files.iter().filter(|(_, of)| *of == command);
        let names: Vec<_> = names.map(|(name, _)| escape(name)).collect();
        (!names.is_empty()).then(|| format!("<b>{command}</b> ({})", names.join(", ")))
    };
    let commands = ["compare", "cluster", "floor", "tune"];
    let parts: Vec<_> = commands.into_iter().filter_map(of).collect();
    format!("<p class=\"files\">Results of {}</p>\n", parts.join(" · "))
}

/// The machines that can't be compared with each other, each as it was first met.
fn places(model: &Model) -> Vec<&Machine> {
    let mut places: Vec<&Machine> = Vec::new();
    for machine in &model.machines {
        if !places.iter().any(|known| known.is_like(machine)) {
            places.push(machine);
        }
    }
    places
}

/// The programs that were run on a machine: several if they were built from several commits.
fn programs(model: &Model, place: &Machine) -> String {
    let program = |machine: &Machine| {
        let built = machine.commit.as_ref().map(|commit| format!("commit {commit}"));
        joined([machine.version.clone(), built, machine.profile.clone()])
    };
    let here = model.machines.iter().filter(|machine| machine.is_like(place));
    let mut programs: Vec<String> = here.map(program).collect();
    programs.dedup();
    programs.join("; ")
}

fn machine(machine: &Machine, programs: String) -> String {
    let memory = machine.memory_bytes.map(|bytes| format!("{:.1} GiB", bytes as f64 / GIB));
    let cores = machine.cores.map(|cores| format!("{} of ", plural(cores as usize, "core")));
    let cache = machine.write_cache.as_ref().map(|cache| format!("{cache} cache"));
    let fua = machine.fua.map(|fua| if fua { "FUA" } else { "no FUA" }.to_owned());
    let disk = [machine.device.clone(), cache, fua, machine.scheduler.clone()];
    let files = [machine.file_system.clone(), machine.mount_options.clone()];
    let cpu = machine.cpu.clone().map(|cpu| cores.unwrap_or_default() + &cpu);
    let rows = [
        ("Processor", cpu.unwrap_or_default()),
        ("Memory", memory.unwrap_or_default()),
        ("Kernel", machine.kernel.as_ref().map(|k| format!("Linux {k}")).unwrap_or_default()),
        ("Disk", joined(disk)),
        ("File system", joined(files)),
        ("Ringleader", programs),
    ];
    let shown = rows.into_iter().filter(|(_, value)| !value.is_empty());
    let shown =
        shown.map(|(name, value)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", escape(&value)));
    format!("<dl class=\"machine\">{}</dl>\n", shown.collect::<String>())
}

/// Characters of a reason; some are pages long.
const REASON: usize = 240;
const GIB: f64 = (1_u64 << 30) as f64;

fn joined<const N: usize>(parts: [Option<String>; N]) -> String {
    let parts: Vec<_> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    parts.join(", ")
}

/// What a reader has to know before trusting the numbers.
fn notes(model: &Model) -> String {
    let mut notes = Vec::new();
    let many = places(model).len();
    if many > 1 {
        notes.push(format!(
            "The files are of {many} different machines: their numbers don't compare."
        ));
    }
    if model.machines.iter().any(|machine| machine.profile.as_deref() == Some("debug")) {
        notes.push("A debug build was measured: its numbers say little.".into());
    }
    if model.replaced > 0 {
        let points = plural(model.replaced, "point");
        notes.push(format!("{points} were in several files; the last file's are shown."));
    }
    notes.extend(failures(model));
    for Engine { name, described, .. } in &model.engines {
        let skipped = described.skipped.as_ref().map(|why| fit(why, REASON));
        notes.extend(skipped.map(|why| format!("{name} was left out: {why}")));
    }
    let items: String = notes.iter().map(|note| format!("<li>{}</li>", escape(note))).collect();
    if items.is_empty() { items } else { format!("<ul class=\"notes\">{items}</ul>\n") }
}

/// What failed, told once per engine and payload.
fn failures(model: &Model) -> Vec<String> {
    let mut told: Vec<(usize, u64)> = Vec::new();
    let failed = |point: &Point| point.runs.iter().filter(|run| !run.passed()).count();
    for point in model.points.iter().filter(|point| failed(point) > 0) {
        let key = (point.engine, point.workload.payload_bytes);
        if !told.contains(&key) {
            told.push(key);
        }
    }
    let tell = |(engine, payload): (usize, u64)| {
        let same =
            |point: &&Point| (point.engine, point.workload.payload_bytes) == (engine, payload);
        let points: Vec<&Point> = model.points.iter().filter(same).collect();
        let runs: usize = points.iter().map(|point| point.runs.len()).sum();
        let count: usize = points.iter().map(|point| failed(point)).sum();
        let reason =
            points.iter().flat_map(|point| &point.runs).find_map(|run| run.failures.first());
        format!(
            "{}: {count} of {} with {} payload failed and don't count: {}",
            model.engines[engine].name,
            plural(runs, "run"),
            bytes(payload),
            fit(reason.map_or("no reason given", String::as_str), REASON),
        )
    };
    told.into_iter().map(tell).collect()
}

/// The engines' colours; pointing at one makes the others pale.
fn key(model: &Model) -> String {
    let measured = |at: usize| model.points.iter().any(|point| point.engine == at);
    let shown = model.engines.iter().enumerate().filter(|(at, _)| measured(*at));
    let mut shown: Vec<_> = shown.map(|(_, engine)| engine).collect();
    shown.sort_by_key(|engine| !engine.is_own());
    let chip = |engine: &&Engine| {
        let colour = engine.colour;
        format!(
            "<button type=\"button\" class=\"e{colour}\" data-e=\"{colour}\" \
             aria-pressed=\"false\"><svg viewBox=\"0 0 12 12\" aria-hidden=\"true\">{}</svg>{}\
             </button>",
            shape("m", &mark(colour, 6.0, 6.0, 4.2)),
            escape(&engine.label())
        )
    };
    let chips: String = shown.iter().map(chip).collect();
    let volatile = match shown.iter().any(|engine| engine.is_volatile()) {
        true => "<span>† not durable: what it acknowledges is not on disk yet</span>",
        false => "",
    };
    match shown.len() {
        0 | 1 => String::new(),
        _ => format!("<nav class=\"key\" aria-label=\"Engines\">{chips}{volatile}</nav>\n"),
    }
}
