//! `otelbench claims`, end to end: measurements, the stored document and the exit code.

use std::path::Path;
use std::process::{Command, Output};

use crate::common::{RPS, alone, document, otelbench, ran, stderr, stdout};
use otelbench::experiment::claims::own::ClaimSelection;
use otelbench::record::claims::ClaimVerdict;
use otelbench::record::result::Document;

/// A claim about `full` that is sure to hold, and one that is sure not to.
const CERTAIN: &str = r#"
mode = "full"
[[claims]]
id = "a-second"
statement = "full costs less than a second per request"
metric = "cpu_us_per_request"
arm = "full"
limit = 1000000
unit = "us"
[[claims]]
id = "no-allocation"
statement = "full allocates nothing"
metric = "allocations_per_request"
arm = "full"
limit = 1
unit = "allocations"
"#;

/// The command on the claims that are certain; `more` are further options.
fn certain(folder: &Path, more: &str) -> Command {
    let (file, out) = (folder.join("certain.toml"), folder.join("claims.json"));
    std::fs::write(&file, CERTAIN).unwrap();
    let options = "--slices 1 --slice 300ms --warmup 100ms --seed 5";
    let mut command = otelbench(&format!("claims --rps {RPS} {options} {more}"));
    command.arg(&file).arg("--out").arg(&out);
    command
}

/// Runs it, and again where the program distrusts what it measured: whatever else it ends with is what is tested.
fn trusted(mut command: impl FnMut() -> Command) -> Output {
    let mut output = command().output().unwrap();
    for _ in 1..3 {
        if output.status.code() != Some(4) {
            break;
        }
        output = command().output().unwrap();
    }
    output
}

fn verdicts(document: &Document) -> Vec<(&str, ClaimVerdict)> {
    document.claims.iter().map(|claim| (claim.id.as_str(), claim.verdict)).collect()
}

#[test]
fn certain_claims_are_confirmed_or_refuted_and_fail_only_with_fail_on() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let output = trusted(|| certain(folder.path(), "--rounds 3"));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let out = folder.path().join("claims.json");
    let kept = document(&out);
    assert_eq!(verdicts(&kept), [("a-second", ClaimVerdict::Confirmed), ("no-allocation", ClaimVerdict::Refuted)]);
    assert_eq!(kept.header.scenario.arm_names(), ["none", "placebo", "full"]);
    assert!(matches!(&kept.header.scenario.claims, Some(ClaimSelection::Own(claims)) if claims.len() == 2));
    let figure = &kept.claims[1].figure;
    assert!(figure.low.unwrap() > 50.0 && figure.high.unwrap() < 1_000.0, "{figure:?}");

    // What is stored is reported alike, also from the records alone.
    let table = stdout(&output);
    assert!(table.contains("certain: 1 confirmed, 1 refuted, 0 inconclusive"), "{table}");
    assert_eq!(stdout(&ran(&format!("report {}", out.display()))), table);
    assert_eq!(stdout(&ran(&format!("report {}", out.with_extension("jsonl").display()))), table);
    let page = stdout(&ran(&format!("report {} --format markdown", out.display())));
    assert!(page.contains("| **no-allocation** |") && page.contains("| refuted |"), "{page}");

    let output = trusted(|| certain(folder.path(), "--rounds 2 --fail-on refuted --quiet"));
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("no-allocation: ") && !stderr(&output).contains("a-second"),
        "{}",
        stderr(&output)
    );
    assert!(stdout(&output).contains("1 refuted"), "the report comes before the failure");
    let output = trusted(|| certain(folder.path(), "--rounds 2 --fail-on inconclusive --only a-second"));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(verdicts(&document(&out)), [("a-second", ClaimVerdict::Confirmed)]);
}

#[test]
fn one_round_leaves_every_claim_inconclusive() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let output = trusted(|| certain(folder.path(), "--rounds 1 --fail-on inconclusive"));
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("two rounds or more"), "{}", stderr(&output));
    let kept = document(&folder.path().join("claims.json"));
    assert!(kept.claims.iter().all(|claim| claim.verdict == ClaimVerdict::Inconclusive));
    let output = trusted(|| certain(folder.path(), "--rounds 1 --fail-on refuted"));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn published_claims_are_measured_in_every_way_and_every_reading_is_stored() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("claims.json");
    let ids = "metric-record,auto-context,baggage,redaction,level-filter,mtls,resource,single-recorder";
    let output = trusted(|| {
        let options = "--rounds 2 --slice 200ms --warmup 100ms --seed 5";
        let mut command = otelbench(&format!("claims --rps {RPS} {options} --only {ids}"));
        command.arg("--out").arg(&out);
        command
    });
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let kept = document(&out);
    let judged = verdicts(&kept);
    for (id, verdict) in [
        ("auto-context", ClaimVerdict::Refuted),
        // It depends on whether the context is handed on.
        ("baggage", ClaimVerdict::Inconclusive),
        ("redaction", ClaimVerdict::Confirmed),
        ("mtls", ClaimVerdict::Confirmed),
        ("resource", ClaimVerdict::Confirmed),
        ("single-recorder", ClaimVerdict::Refuted),
    ] {
        assert!(judged.contains(&(id, verdict)), "{id}: {:#?}", kept.claims);
    }
    assert_eq!(judged.len(), 8);
    let evidence = kept.evidence.as_ref().unwrap();
    assert_eq!(evidence.missing, Vec::<String>::new());
    assert_eq!(evidence.isolated.as_ref().unwrap().of("counter-macro-bridge").unwrap().len(), 2);
    assert_eq!(evidence.scenarios.keys().collect::<Vec<_>>(), ["environment", "payment", "personal"]);
    for (name, records) in &evidence.scenarios {
        assert!(records.is_whole() && out.with_file_name(format!("claims-{name}.jsonl")).exists(), "{name}");
    }
    // Controls: without redaction or filter something is found, and the authorised client is accepted.
    let reading = |id: &str, subject: &str| {
        let claim = kept.claims.iter().find(|claim| claim.id == id).unwrap();
        let figure = &claim.readings.iter().find(|reading| reading.subject == subject).unwrap().figure;
        (figure.estimate.unwrap(), figure.of.unwrap())
    };
    let (found, looked_for) = reading("redaction", "without it");
    assert!(found > 0.0 && found.total_cmp(&looked_for).is_eq(), "{found} of {looked_for}");
    let (debugged, orders) = reading("level-filter", "filter at debug");
    assert!(debugged > 0.0 && debugged.total_cmp(&orders).is_eq(), "{debugged} of {orders}");
    let [authorised, unauthorised @ ..] = &evidence.tls_attempts[..] else { panic!("{:?}", evidence.tls_attempts) };
    assert!(!authorised.unauthorised && authorised.received == authorised.ended, "{authorised:?}");
    assert_eq!(authorised.refused_connections, 0);
    assert_eq!(unauthorised.len(), 3);
    for (client, why) in unauthorised.iter().zip(["no certificates", "UnknownIssuer", "expired"]) {
        let said = client.refused_connection.as_deref().unwrap_or_default();
        assert!(client.received == 0 && said.contains(why), "{client:?}");
    }
    assert_eq!(stdout(&ran(&format!("report {}", out.display()))), stdout(&output));
    assert!(stdout(&output).lines().all(|line| line.chars().count() <= 100), "{}", stdout(&output));
}

#[test]
fn unknown_claims_and_arms_are_refused_with_a_suggestion() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    let refused = |text: &str, more: &str, code: i32, says: &str| {
        std::fs::write(&file, text).unwrap();
        let output = otelbench(&format!("claims {} {more}", file.display())).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    };
    refused("", "--only metric-recrod", 2, "did you mean `metric-record`?");
    refused(CERTAIN, "--only metric-record", 2, "the claims are a-second, no-allocation");
    refused("mode = \"full\"", "", 2, "the published claims determine `mode`");
    refused(&CERTAIN.replace("arm = \"full\"", "arm = \"ful\""), "", 2, "line 7, `claims.arm`: unknown mode `ful`");
}
