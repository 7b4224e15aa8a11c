//! What a run needs before anything is sent: options that were found consistent,
//! the campaign's directory, the lists, the exclusions.

use std::fs::{self, File};
use std::io;
use std::path::{self, Path, PathBuf};
use std::sync::Arc;

use toml::{Table, Value};

use super::Arguments;
use crate::campaign::CampaignError;
use crate::campaign::directory::Directory;
use crate::campaign::patient::{Patient, Room};
use crate::campaign::plan::{List, Plan};
use crate::campaign::store::{Campaign, Found, Store};
use crate::cli::exit::{Failure, tell};
use crate::dns::Family;
use crate::engine::record;
use crate::report::civil::Rfc3339;
use crate::report::output::OutputSpec;
use crate::session::SessionOptions;
use crate::targets::exclude::Exclusions;
use crate::targets::list::{ListOptions, Supply};

/// What is to be done.
pub enum Prepared {
    /// A run.
    Run(Box<Run>),
    /// Nothing: the campaign in this directory is finished.
    Finished(PathBuf),
}

/// A run that can begin.
pub struct Run {
    /// What sessions have in common.
    pub session: SessionOptions,
    /// Which addresses of names are traced.
    pub family: Family,
    /// The lists.
    pub lists: ListOptions,
    /// The targets in order.
    pub supply: Supply,
    /// What is not traced.
    pub exclusions: Exclusions,
    /// Where records go.
    pub store: Store,
    /// What was done before.
    pub found: Option<Found>,
    /// The campaign's directory, where there is one.
    pub campaign: Option<PathBuf>,
    /// Whether the disk is full.
    pub room: Arc<Room>,
}

/// Standard input, and standard output.
fn is_standard(path: &Path) -> bool {
    path == Path::new("-")
}

impl Prepared {
    /// Checks the options, opens what is to be opened. `options` are the same as a
    /// table: for the plan.
    ///
    /// # Errors
    /// A usage error that names input, reason and mend.
    pub fn new(arguments: &Arguments, options: Table) -> Result<Self, Failure> {
        let session = arguments.probing.session()?;
        let family = arguments.probing.family()?;
        if arguments.words.is_empty() && arguments.targets.is_empty() {
            return Err(Failure::usage(
                "no targets; name some, or a list by --targets FILE (- for standard input)",
            ));
        }
        let standard = arguments.targets.iter().filter(|it| is_standard(it));
        if standard.count() > 1 {
            return Err(Failure::usage(
                "--targets -: standard input can be read once; name it once",
            ));
        }
        let mut outputs = specs(&arguments.output)?;
        let exclusions = Exclusions::new(
            &arguments.exclude,
            &arguments.allow,
            arguments.probing.interface.as_deref(),
        )?;
        let room = Arc::new(Room::default());
        let mut lists = ListOptions {
            files: arguments.targets.clone(),
            words: arguments.words.clone(),
            per_prefix: arguments.per_prefix,
            per_prefix6: arguments.per_prefix6,
            seed: arguments.seed,
        };
        let (store, found, campaign) = match (&arguments.campaign, &arguments.resume) {
            (Some(path), _) => {
                let path = absolute(path)?;
                let store = begin(&path, &mut lists, &mut outputs, options, arguments, &room)?;
                (store, None, Some(path))
            }
            (None, Some(path)) => {
                let path = absolute(path)?;
                let (directory, plan) = Directory::open(&path)?;
                if directory.sealed()?.finished {
                    return Ok(Prepared::Finished(path));
                }
                plan.check_lists()?;
                let (store, found) = Campaign::open(directory, outputs, Arc::clone(&room))?;
                (Store::Campaign(Box::new(store)), Some(found), Some(path))
            }
            (None, None) => {
                if outputs.is_empty() {
                    outputs = specs(&[PathBuf::from("-")])?;
                }
                (Store::direct(&outputs, Arc::clone(&room))?, None, None)
            }
        };
        Ok(Prepared::Run(Box::new(Run {
            session,
            family,
            supply: Supply::open(&lists)?,
            lists,
            exclusions,
            store,
            found,
            campaign,
            room,
        })))
    }
}

/// What is written where.
fn specs(paths: &[PathBuf]) -> Result<Vec<OutputSpec>, Failure> {
    let mut outputs: Vec<OutputSpec> = Vec::new();
    for path in paths {
        let spec =
            OutputSpec::of(path).map_err(|reason| Failure::usage(format!("--output {reason}")))?;
        if outputs.iter().any(|it| it.path == spec.path) {
            return Err(Failure::usage(format!(
                "--output {}: it is named twice; name it once",
                path.display()
            )));
        }
        outputs.push(spec);
    }
    Ok(outputs)
}

/// Begins a campaign: its plan names files by absolute paths, so that it can be
/// resumed from anywhere, and standard input is kept.
fn begin(
    path: &Path,
    lists: &mut ListOptions,
    outputs: &mut Vec<OutputSpec>,
    mut options: Table,
    arguments: &Arguments,
    room: &Arc<Room>,
) -> Result<Store, Failure> {
    if outputs.iter().any(|output| is_standard(&output.path)) {
        return Err(Failure::usage(
            "--output -: a campaign's results are whole files, standard output cannot be; name a file",
        ));
    }
    if outputs.is_empty() {
        *outputs = specs(&[path.join("results.jsonl.zst")])?;
    }
    for output in &mut *outputs {
        output.path = absolute(&output.path)?;
        // Now, not when all is traced.
        let folder = output.path.parent().unwrap_or(Path::new("/"));
        if !(folder.is_dir() || folder == path) || output.path.is_dir() {
            return Err(Failure::usage(format!(
                "--output {}: no file can be made there; name a file in a directory that exists",
                output.path.display()
            )));
        }
    }
    let directory = Directory::create(path)?;
    for (nth, file) in lists.files.iter_mut().enumerate() {
        if !is_standard(file) {
            *file = absolute(file)?;
        }
        // What can be read only once is kept: standard input, a pipe.
        let is_regular = file.metadata().is_ok_and(|it| it.is_file());
        if is_standard(file) || (file.exists() && !is_regular) {
            let copy = directory.list(nth);
            keep(file, &copy, room)?;
            tell(format_args!(
                "{} is kept in {}",
                file.display(),
                copy.display()
            ));
            *file = copy;
        }
    }
    let digests = lists.files.iter().map(|file| List::of(file));
    let digests = digests.collect::<Result<_, _>>()?;
    let paths = |paths: &mut dyn Iterator<Item = PathBuf>| {
        Value::Array(paths.map(|it| it.display().to_string().into()).collect())
    };
    options.remove("campaign");
    options.insert(
        "targets".to_owned(),
        paths(&mut lists.files.iter().cloned()),
    );
    options.insert(
        "output".to_owned(),
        paths(&mut outputs.iter().map(|it| it.path.clone())),
    );
    let exclude = arguments.exclude.iter().map(|it| absolute(it));
    let exclude = exclude.collect::<Result<Vec<_>, _>>()?;
    options.insert("exclude".to_owned(), paths(&mut exclude.into_iter()));
    let begun = Rfc3339(record::today()).to_string();
    let (store, _) = Campaign::open(directory, outputs.clone(), Arc::clone(room))?;
    // Last: with its plan it has begun.
    store.begin(&Plan::new(begun, digests, options))?;
    Ok(Store::Campaign(Box::new(store)))
}

fn keep(list: &Path, copy: &Path, room: &Arc<Room>) -> Result<(), CampaignError> {
    let kept = File::create(copy).and_then(|file| {
        let mut out = Patient::new(file, Arc::clone(room));
        match is_standard(list) {
            true => io::copy(&mut io::stdin().lock(), &mut out)?,
            false => io::copy(&mut File::open(list)?, &mut out)?,
        };
        room.wait(|| out.get_ref().sync_all())
    });
    kept.map_err(|source| {
        // There is no campaign yet that needs it.
        let _ = fs::remove_file(copy);
        CampaignError::Io {
            what: format!("{}, kept in {}", list.display(), copy.display()),
            source,
            mend: "make room, or give the list as a file",
        }
    })
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    path::absolute(path)
        .map_err(|error| Failure::usage(format!("{}: {error}; name a file", path.display())))
}
