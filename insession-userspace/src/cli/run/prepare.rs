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
use crate::cli::probing::engine::check_rights;
use crate::cli::probing::sidecar::RequestName;
use crate::dns::Family;
use crate::engine::record;
use crate::multipath::flows::FlowsOptions;
use crate::owners::Owners;
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
    /// How many flows a target gets, where it is not just one.
    pub flows: Option<FlowsOptions>,
    /// Which addresses of names are traced.
    pub family: Family,
    /// The lists.
    pub lists: ListOptions,
    /// The targets in order.
    pub supply: Supply,
    /// What is not traced.
    pub exclusions: Exclusions,
    /// Whose the addresses of hops are, where that is asked for.
    pub owners: Option<Arc<Owners>>,
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
        let flows = arguments.probing.flows()?;
        if flows.is_some() && arguments.share_near_hops {
            return Err(Failure::usage(
                "--share-near-hops: it would hide where flows part; leave it out, or --flows and --mda",
            ));
        }
        if session.mtu && arguments.share_near_hops {
            return Err(Failure::usage(
                "--share-near-hops: --mtu has to know of every hop whether it answers; leave one of both out",
            ));
        }
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
        // A campaign that cannot be traced here is not begun.
        check_rights(&arguments.probing)?;
        arguments.probing.conversation()?;
        let owners = arguments.probing.owners()?;
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
                    // In case that it was killed before it came to that.
                    let _ = directory.remove_parts();
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
            flows,
            family,
            supply: Supply::open(&lists)?,
            lists,
            exclusions,
            owners,
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
    let mut files = Vec::new();
    for path in paths {
        let spec =
            OutputSpec::of(path).map_err(|reason| Failure::usage(format!("--output {reason}")))?;
        let file = place(path)?;
        if files.contains(&file) {
            return Err(Failure::usage(format!(
                "--output {}: it is named twice; name it once",
                path.display()
            )));
        }
        files.push(file);
        outputs.push(spec);
    }
    Ok(outputs)
}

/// Where a file is or will be, whatever links lead there.
fn place(path: &Path) -> Result<PathBuf, Failure> {
    if is_standard(path) {
        return Ok(path.to_owned());
    }
    let path = absolute(path)?;
    if let Ok(file) = fs::canonicalize(&path) {
        return Ok(file);
    }
    let folder = path.parent().and_then(|it| fs::canonicalize(it).ok());
    Ok(match (folder, path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => path,
    })
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
        let is_other = fs::metadata(&output.path).is_ok_and(|it| !it.is_file());
        if !(folder.is_dir() || folder == path) || is_other {
            return Err(Failure::usage(format!(
                "--output {}: no file can be made there; name a file in a directory that exists",
                output.path.display()
            )));
        }
        let file = place(&output.path)?;
        if let Ok(ours) = file.strip_prefix(place(path)?)
            && (ours == Path::new("state.json") || ours.starts_with("parts"))
        {
            return Err(Failure::usage(format!(
                "--output {}: the campaign keeps its own files there; name another",
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
    options.remove("campaign");
    // It is of one process: the next would write over it.
    options.remove("pcap");
    let exclude = arguments.exclude.iter().map(|it| absolute(it));
    let exclude = exclude.collect::<Result<Vec<_>, _>>()?;
    let data = arguments.probing.data.iter().map(|it| absolute(it));
    let data = data.collect::<Result<Vec<_>, _>>()?;
    if let Some(RequestName::File(path)) = &arguments.probing.request {
        let path = text("request", &absolute(path)?)?;
        options.insert("request".to_owned(), path);
    }
    let named = outputs.iter().map(|it| it.path.clone());
    for (option, paths) in [
        ("targets", lists.files.clone()),
        ("output", named.collect()),
        ("exclude", exclude),
        ("data", data),
    ] {
        let texts = paths.iter().map(|path| text(option, path));
        let texts = texts.collect::<Result<_, _>>()?;
        options.insert(option.to_owned(), Value::Array(texts));
    }
    let begun = Rfc3339(record::today()).to_string();
    let (store, _) = Campaign::open(directory, outputs.clone(), Arc::clone(room))?;
    // Last: with its plan it has begun.
    store.begin(&Plan::new(begun, digests, options))?;
    Ok(Store::Campaign(Box::new(store)))
}

/// A path as the plan has it.
fn text(option: &str, path: &Path) -> Result<Value, Failure> {
    path.to_str().map(Value::from).ok_or_else(|| {
        Failure::usage(format!(
            "--{option} {}: its name is not UTF-8, a campaign's plan cannot hold it; name it otherwise",
            path.display()
        ))
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args as _, FromArgMatches as _};
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;
    use std::os::unix::fs::symlink;

    use crate::campaign::testing::Folder;

    /// The error of beginning a campaign with this output, where there is one.
    fn refused(folder: &Folder, output: &Path) -> Option<String> {
        let words = ["run", "10.0.0.1"].map(OsString::from);
        let option = [OsString::from("--output"), output.into()];
        let command = Arguments::augment_args(clap::Command::new("run"));
        let matches = command.get_matches_from(words.into_iter().chain(option));
        let arguments = Arguments::from_arg_matches(&matches).unwrap();
        let mut outputs = specs(&arguments.output).unwrap();
        let begun = begin(
            &folder.path("c"),
            &mut ListOptions::default(),
            &mut outputs,
            Table::new(),
            &arguments,
            &Arc::default(),
        );
        begun.err().map(|failure| failure.message)
    }

    #[test]
    fn one_file_is_one_output_however_it_is_named() {
        let folder = Folder::new("prepare-twice");
        let (file, link) = (folder.path("a.jsonl"), folder.path("b.csv"));
        let dotted = folder.path("./.").join("a.jsonl");
        let round = folder
            .path("")
            .join("../")
            .join(folder.path("").canonicalize().unwrap().file_name().unwrap());
        let other = folder.path("c.jsonl");
        assert!(specs(&[file.clone(), other.clone()]).is_ok());
        fs::write(&file, "").unwrap();
        symlink(&file, &link).unwrap();
        for again in [link, dotted, round.join("a.jsonl")] {
            let error = specs(&[other.clone(), file.clone(), again]).unwrap_err();
            assert!(error.message.ends_with("it is named twice; name it once"));
        }
        // Of files that do not exist yet, too.
        assert!(specs(&[other, round.join("c.jsonl")]).is_err());
    }

    #[test]
    fn a_campaign_takes_the_place_of_no_device_and_of_no_file_of_its_own() {
        let folder = Folder::new("prepare-device");
        let null = folder.path("null.jsonl");
        symlink("/dev/null", &null).unwrap();
        fs::create_dir_all(folder.path("c/parts")).unwrap();
        let strange = OsString::from_vec(b"b\xfc.jsonl".to_vec());
        for (output, reason) in [
            (null, "no file can be made there"),
            (folder.path("c/state.json"), "the campaign keeps its own"),
            (folder.path("c/parts/a.csv"), "the campaign keeps its own"),
            (folder.path(strange), "its name is not UTF-8"),
        ] {
            let error = refused(&folder, &output).unwrap();
            assert!(error.contains(reason), "{error}");
        }
        let inside = folder.path("c/results.jsonl");
        assert_eq!(refused(&folder, &inside), None);
    }
}
