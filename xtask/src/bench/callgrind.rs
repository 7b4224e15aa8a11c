//! Reads what callgrind counted: `callgrind.out`, format version 1
//! (Valgrind manual, "Callgrind Format Specification").
//!
//! What is wanted is the engine's cost without the network in memory that it
//! runs over. Self costs by source file cannot tell them apart: both copy
//! memory and hash. The edges of the call graph can, since engine and link meet
//! only in calls through `dyn Link` and, back, through the closures that fill
//! and take frames, none of which is ever inlined:
//!
//! > engine = inclusive(run) − Σ inclusive(engine → link) + Σ inclusive(link → engine)

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, ensure};

/// A profile.
#[derive(Debug, Default)]
pub struct Profile {
    functions: HashMap<String, Function>,
    /// The total that callgrind itself gives.
    pub total: u64,
}

/// A function; those of one name (monomorphised, or in several files) are one.
#[derive(Debug, Default)]
struct Function {
    /// Of its own instructions, by the file they come from: inlined ones are from
    /// elsewhere.
    own: BTreeMap<String, u64>,
    calls: HashMap<String, Calls>,
}

/// All calls from one function to another.
#[derive(Clone, Copy, Debug, Default)]
struct Calls {
    count: u64,
    inclusive: u64,
}

/// Which names belong to which side.
#[derive(Clone, Copy, Debug)]
pub struct Sides {
    /// Parts of names of the engine's functions.
    pub engine: &'static [&'static str],
    /// Parts of names of the link's.
    pub link: &'static [&'static str],
}

/// What the engine's side took.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// Below the root.
    pub inclusive: u64,
    /// Of this in the link.
    pub link: u64,
    /// The rest.
    pub engine: u64,
    /// Of the rest the self cost of the engine's own functions, by source file,
    /// largest first; what they call in libraries (memory, hashing) is not in it.
    pub files: Vec<(String, u64)>,
}

impl Profile {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Profile> {
        Reader::default().read(text)
    }

    /// Self and callees of a function.
    pub fn inclusive(&self, name: &str) -> Result<u64> {
        let function = self
            .functions
            .get(name)
            .with_context(|| format!("{name}: no such function in the profile; was it inlined?"))?;
        let own: u64 = function.own.values().sum();
        let called: u64 = function.calls.values().map(|calls| calls.inclusive).sum();
        Ok(own + called)
    }

    /// What of `root` is the engine's.
    pub fn cost(&self, root: &str, sides: Sides) -> Result<Cost> {
        // The link first: `link` is deeper than `engine` in `<Link as …>` names.
        let is_link = |name: &str| sides.link.iter().any(|part| name.contains(part));
        let is_engine =
            |name: &str| !is_link(name) && sides.engine.iter().any(|part| name.contains(part));
        let inclusive = self.inclusive(root)?;
        let (mut into, mut back) = (0, 0);
        let mut files: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, function) in &self.functions {
            let engine = is_engine(name);
            for (callee, calls) in &function.calls {
                if engine && is_link(callee) {
                    into += calls.inclusive;
                }
                // A closure may be called through a shim of the standard library.
                if !engine && is_engine(callee) && callee.contains("closure") {
                    back += calls.inclusive;
                }
            }
            if engine {
                for (file, cost) in &function.own {
                    *files.entry(file).or_default() += cost;
                }
            }
        }
        ensure!(
            into > 0 && back > 0,
            "no call crosses from the engine to the link and back: names have changed"
        );
        let link = into
            .checked_sub(back)
            .context("the link called more than it was called for")?;
        let engine = inclusive
            .checked_sub(link)
            .context("the link took more than the whole")?;
        let mut files: Vec<_> = files
            .into_iter()
            .map(|(file, cost)| (file.to_owned(), cost))
            .collect();
        files.sort_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.cmp(b)));
        Ok(Cost {
            inclusive,
            link,
            engine,
            files,
        })
    }
}

/// Where a reader stands.
#[derive(Debug, Default)]
struct Reader {
    profile: Profile,
    /// Names by their numbers: files, functions (objects are not looked at).
    files: HashMap<u64, String>,
    names: HashMap<u64, String>,
    /// Words before the costs of a line.
    positions: usize,
    function: String,
    file: String,
    callee: String,
    /// The next line of costs is a call's.
    calls: Option<u64>,
}

impl Reader {
    fn read(mut self, text: &str) -> Result<Profile> {
        self.positions = 1;
        for (number, line) in text.lines().enumerate() {
            self.line(line)
                .with_context(|| format!("callgrind.out, line {}: {line}", number + 1))?;
        }
        ensure!(
            !self.profile.functions.is_empty(),
            "callgrind.out: holds no function"
        );
        Ok(self.profile)
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            return self.cost(line);
        }
        if let Some((key, value)) = line.split_once('=') {
            match key {
                "fl" | "fi" | "fe" => self.file = resolve(&mut self.files, value)?,
                "fn" => self.function = resolve(&mut self.names, value)?,
                "cfn" => self.callee = resolve(&mut self.names, value)?,
                // Read for the number it gives to a name.
                "cfi" | "cfl" => drop(resolve(&mut self.files, value)?),
                "calls" => {
                    let count = value.split_whitespace().next().context("no count")?;
                    self.calls = Some(count.parse().context("count")?);
                }
                _ => {}
            }
            return Ok(());
        }
        if let Some((key, value)) = line.split_once(':') {
            match key {
                "positions" => self.positions = value.split_whitespace().count(),
                "events" => ensure!(
                    value.split_whitespace().next() == Some("Ir"),
                    "the first event is not Ir"
                ),
                "summary" | "totals" => {
                    let total = value.split_whitespace().next().context("no total")?;
                    self.profile.total = total.parse().context("total")?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn cost(&mut self, line: &str) -> Result<()> {
        // Costs that are left out are 0.
        let cost = match line.split_whitespace().nth(self.positions) {
            Some(word) => word.parse::<u64>().context("cost")?,
            None => 0,
        };
        let function = self
            .profile
            .functions
            .entry(self.function.clone())
            .or_default();
        match self.calls.take() {
            Some(count) => {
                let calls = function.calls.entry(self.callee.clone()).or_default();
                calls.count += count;
                calls.inclusive += cost;
            }
            None => match function.own.get_mut(&self.file) {
                Some(own) => *own += cost,
                None => drop(function.own.insert(self.file.clone(), cost)),
            },
        }
        Ok(())
    }
}

/// `(3) name` gives 3 a name, `(3)` is it; without a number it is a name.
fn resolve(known: &mut HashMap<u64, String>, value: &str) -> Result<String> {
    let Some((number, name)) = value
        .strip_prefix('(')
        .and_then(|rest| rest.split_once(')'))
    else {
        return Ok(value.to_owned());
    };
    let number = number.parse().context("number of a name")?;
    let name = name.trim();
    if name.is_empty() {
        return known
            .get(&number)
            .cloned()
            .with_context(|| format!("number {number} has no name"));
    }
    known.insert(number, name.to_owned());
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// main calls run; run has 10 of its own and 5 inlined from core; it calls
    /// receive (100 in all), which calls a closure of run (30 in all, once through
    /// a shim), which calls memcpy (20).
    const SAMPLE: &str = "\
# callgrind format
version: 1
creator: by hand
positions: line
events: Ir

ob=(1) /bin/instructions
fl=(1) main.rs
fn=(1) instructions::main
1 7
cfi=(2) engine/worker.rs
cfn=(2) insession::engine::worker::run
calls=1 10
2 127

fl=(2)
fn=(2)
10 8
+1 2
fi=(3) core/slice.rs
* 5
fe=(2)
cob=(1)
cfi=(4) link/mirror.rs
cfn=(3) <insession::link::mirror::MirrorLink as insession::link::Link>::receive
calls=2 20
-1 100
calls=1 20
* 12

fl=(4)
fn=(3)
20 82
cfi=(3)
cfn=(4) core::ops::function::FnMut::call_mut
calls=3 30
21 30

fl=(3)
fn=(4)
30 4
cfi=(2)
cfn=(5) insession::engine::worker::Worker::run::{{closure}}
calls=3 40
31 26

fl=(2)
fn=(5)
40 6
cfi=(5) memcpy.S
cfn=(6) memcpy
calls=3 50
41 20

fl=(5)
fn=(6)
50 20
totals: 134
";

    const SIDES: Sides = Sides {
        engine: &["insession::engine::"],
        link: &["insession::link::mirror::"],
    };

    #[test]
    fn the_link_is_taken_out_and_what_it_calls_back_is_not() {
        let profile = Profile::parse(SAMPLE).unwrap();
        assert_eq!(profile.total, 134);
        assert_eq!(
            profile.inclusive("insession::engine::worker::run").unwrap(),
            127
        );
        let cost = profile
            .cost("insession::engine::worker::run", SIDES)
            .unwrap();
        // 100 + 12 into the link, 26 back: through the shim, whose own 4 stay the link's.
        assert_eq!(cost.link, 86);
        assert_eq!(cost.engine, 41);
        assert_eq!(
            cost.files,
            [
                ("engine/worker.rs".to_owned(), 16),
                ("core/slice.rs".to_owned(), 5)
            ]
        );
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let profile = Profile::parse(SAMPLE).unwrap();
        assert!(profile.inclusive("no_such").is_err());
        let renamed = Sides {
            link: &["insession::link::other::"],
            ..SIDES
        };
        assert!(
            profile
                .cost("insession::engine::worker::run", renamed)
                .is_err()
        );
        assert!(Profile::parse("events: Ir\n").is_err());
        assert!(Profile::parse("fn=(7)\n").is_err());
        assert!(Profile::parse("fn=a\n1 x\n").is_err());
    }
}
