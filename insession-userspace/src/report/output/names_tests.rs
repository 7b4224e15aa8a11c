//! Names of files and the formats they tell.

use super::*;

fn of(name: &str) -> Result<OutputSpec, String> {
    OutputSpec::of(Path::new(name))
}

#[test]
fn a_name_tells_the_format() {
    use {Compression as C, Encoding as E};
    for (name, encoding, compression) in [
        ("-", E::Json, C::None),
        ("r.jsonl", E::Json, C::None),
        ("r.json", E::Json, C::None),
        ("/a.b/R.NDJSON", E::Json, C::None),
        ("r.jsonl.gz", E::Json, C::Gzip),
        ("r.2026.jsonl.zst", E::Json, C::Zstd),
        ("r.parquet", E::Parquet, C::None),
        ("r.csv", E::Caracal, C::None),
        ("r.csv.zst", E::Caracal, C::Zstd),
        ("r.scamper.json", E::Scamper, C::None),
        ("r.scamper.jsonl.gz", E::Scamper, C::Gzip),
        ("r.atlas.jsonl", E::Atlas, C::None),
        ("r.atlas.json.zst", E::Atlas, C::Zstd),
        ("scamper.jsonl", E::Json, C::None),
    ] {
        let spec = of(name).unwrap();
        let found = (spec.encoding, spec.compression);
        assert_eq!(found, (encoding, compression), "{name}");
        assert_eq!(spec.path, Path::new(name));
    }
}

#[test]
fn other_names_are_told_what_there_is() {
    for name in [
        "r",
        "r.txt",
        "r.gz",
        "r.zst",
        "",
        "/",
        "jsonl",
        "r.jsonl.bz2",
    ] {
        let said = of(name).unwrap_err();
        for extension in [
            ".jsonl",
            ".parquet",
            ".csv",
            ".scamper.jsonl",
            ".atlas.jsonl",
        ] {
            assert!(said.contains(extension), "{name}: {said}");
        }
    }
    let said = of("r.parquet.zst").unwrap_err();
    assert!(said.contains("name it .parquet"), "{said}");
}

#[test]
fn the_extension_of_a_part_names_the_same() {
    for name in ["r.json", "r.csv.gz", "r.atlas.ndjson.zst", "r.parquet", "-"] {
        let spec = of(name).unwrap();
        let part = of(&format!("part-1{}", spec.extension())).unwrap();
        assert_eq!(part.encoding, spec.encoding);
        assert_eq!(part.compression, spec.compression);
    }
}
