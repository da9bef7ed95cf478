//! Records of a run, stored while it goes on: one line of JSON per event, appended and never changed.
//!
//! The first line describes the run, each slice and each lane that ended adds one. A run that was cut short, even by
//! `kill -9`, leaves every finished line readable.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::experiment::plan::Plan;
use crate::experiment::scenario::Scenario;
use crate::record::account::Account;
use crate::record::load::LoadResult;
use crate::record::machine::{Machine, Tool};
use crate::record::received::Received;
use crate::record::usage::ResourceUsage;

/// Name and major version of the result document.
pub const SCHEMA: &str = "otelbench.result/1";

/// The run, the machine, and the program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Header {
    /// `otelbench.result/1`.
    pub schema: String,
    /// The program that measured.
    pub tool: Tool,
    /// The machine it measured on.
    pub machine: Machine,
    /// When the run started: UTC, RFC 3339.
    pub started_at: String,
    /// When it was taken up again after it had been cut short, each time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumed_at: Vec<String>,
    /// The scenario, every default filled in.
    pub scenario: Scenario,
    /// The order of play.
    pub plan: Plan,
}

/// One slice: a stretch of load on one lane, the others idle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SliceRecord {
    /// Round, from 0.
    pub round: u32,
    /// Which of the arm's slices in this round, from 0.
    pub slice: u32,
    /// The arm's name.
    pub arm: String,
    /// The load and its results.
    #[serde(flatten)]
    pub played: LoadResult,
    /// Resources that the lane used.
    #[serde(flatten)]
    pub spent: ResourceUsage,
}

/// One lane, from launch to end: its side of the ledger, and the sink's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LaneRecord {
    /// Round, from 0.
    pub round: u32,
    /// The arm's name.
    pub arm: String,
    /// Orders answered, warm-up included.
    pub orders_completed: u64,
    /// Orders sent of which the answer is not known, so that the service may or may not have counted them; with those of
    /// other requests where the mix has some.
    pub orders_uncertain: u64,
    /// The service's account of its telemetry.
    pub account: Account,
    /// Telemetry that the sink received; null where it went elsewhere.
    pub received: Option<Received>,
    /// The build that ran it; absent where that is the one that measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<Tool>,
}

/// A line of the records file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum Line {
    /// The first.
    Header(Box<Header>),
    /// A slice was played.
    Slice(Box<SliceRecord>),
    /// A lane has ended.
    Lane(Box<LaneRecord>),
}

/// Everything that was measured, in the order it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Records {
    /// The run.
    pub header: Header,
    /// The slices.
    pub slices: Vec<SliceRecord>,
    /// The lanes.
    pub lanes: Vec<LaneRecord>,
}

/// Errors of a records file.
#[derive(Debug, Error)]
pub enum RecordsError {
    /// It cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is not a record.
    #[error("{path}, line {line}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Reason.
        reason: String,
    },
}

/// The records of a run that goes on: on disk as they are made, and in memory.
#[derive(Debug)]
pub struct RecordLog {
    path: PathBuf,
    file: File,
    records: Records,
}

impl RecordLog {
    /// Begins the file at `path` with the header. A file that is already there is kept beside it under `.bak`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(path: &Path, header: Header) -> Result<Self, RecordsError> {
        let failed = |source| RecordsError::Io { path: path.into(), source };
        if path.exists() {
            fs::rename(path, path.with_extension("jsonl.bak")).map_err(failed)?;
        }
        let file = File::create(path).map_err(failed)?;
        let mut log = Self {
            path: path.into(),
            file,
            records: Records { header: header.clone(), slices: Vec::new(), lanes: Vec::new() },
        };
        log.append(&Line::Header(Box::new(header)))?;
        Ok(log)
    }

    /// Begins the file at `path` with the records of a run that was cut short.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn resume(path: &Path, records: Records) -> Result<Self, RecordsError> {
        let mut log = Self::create(path, records.header)?;
        for slice in records.slices {
            log.slice(slice)?;
        }
        for lane in records.lanes {
            log.lane(lane)?;
        }
        Ok(log)
    }

    /// Adds a slice, without the histograms that no analysis reads unless the scenario keeps them.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn slice(&mut self, mut record: SliceRecord) -> Result<(), RecordsError> {
        let scenario = &self.records.header.scenario;
        if !scenario.keep_histograms {
            record.played.hdr = record.played.hdr.read_by_analysis(scenario);
        }
        self.append(&Line::Slice(Box::new(record.clone())))?;
        self.records.slices.push(record);
        Ok(())
    }

    /// Adds a lane.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn lane(&mut self, record: LaneRecord) -> Result<(), RecordsError> {
        self.append(&Line::Lane(Box::new(record.clone())))?;
        self.records.lanes.push(record);
        Ok(())
    }

    /// The records so far.
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends the log.
    pub fn into_records(self) -> Records {
        self.records
    }

    fn append(&mut self, line: &Line) -> Result<(), RecordsError> {
        // One write per line: whoever reads the file meanwhile, or after a kill, sees whole lines but for the last.
        let written = serde_json::to_string(line)
            .map_err(io::Error::other)
            .and_then(|json| self.file.write_all(format!("{json}\n").as_bytes()));
        written.map_err(|source| RecordsError::Io { path: self.path.clone(), source })
    }
}

impl Records {
    /// Reads a records file, also one whose last line was cut off.
    ///
    /// # Errors
    /// When it cannot be read, or a line before the last is not a record.
    pub fn read(path: &Path) -> Result<Self, RecordsError> {
        let failed = |source| RecordsError::Io { path: path.into(), source };
        let lines: Vec<String> =
            BufReader::new(File::open(path).map_err(failed)?).lines().collect::<io::Result<_>>().map_err(failed)?;
        let malformed = |line: usize, reason: String| RecordsError::Malformed { path: path.into(), line, reason };
        let mut parsed =
            lines.iter().enumerate().filter_map(|(index, text)| match serde_json::from_str::<Line>(text) {
                Ok(line) => Some(Ok(line)),
                // The last line may be one that was being written when the run was killed.
                Err(_) if index > 0 && index + 1 == lines.len() => None,
                Err(error) => Some(Err(malformed(index + 1, format!("not a record: {error}")))),
            });
        let header = match parsed.next() {
            Some(Ok(Line::Header(header))) => *header,
            Some(Err(error)) => return Err(error),
            Some(Ok(_)) | None => return Err(malformed(1, "the first line must describe the run".into())),
        };
        let mut records = Self { header, slices: Vec::new(), lanes: Vec::new() };
        for line in parsed {
            match line? {
                Line::Header(_) => return Err(malformed(1, "a second run begins in this file".into())),
                Line::Slice(record) => records.slices.push(*record),
                Line::Lane(record) => records.lanes.push(*record),
            }
        }
        Ok(records)
    }

    /// Rounds whose lanes have all ended.
    pub fn rounds_ended(&self) -> u32 {
        // Lanes end with their round, all of them.
        (self.lanes.len() / self.header.scenario.arms.len().max(1)) as u32
    }

    /// The same without the records of a round that has not ended.
    #[must_use]
    pub fn of_whole_rounds(mut self) -> Self {
        let ended = self.rounds_ended();
        self.slices.retain(|slice| slice.round < ended);
        self.lanes.retain(|lane| lane.round < ended);
        self
    }

    /// Whether every slice that was planned is here; of searches, whose slices nobody planned, whether every lane ended.
    pub fn is_whole(&self) -> bool {
        let Header { scenario, plan, .. } = &self.header;
        match scenario.slo {
            None => self.slices.len() == plan.order.iter().map(Vec::len).sum::<usize>(),
            Some(_) => self.lanes.len() == plan.order.len() * scenario.arms.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::fixture;
    use crate::record::load::Hdr;

    fn cost(arm: &str, round: u32) -> f64 {
        20.0 * fixture::noise(arm, round)
    }

    fn logged(rounds: u32) -> (tempfile::TempDir, PathBuf, Records) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.jsonl");
        let whole = RecordLog::resume(&path, fixture::run(rounds, cost)).unwrap().into_records();
        (folder, path, whole)
    }

    #[test]
    fn histograms_that_no_analysis_reads_are_stored_on_request_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.jsonl");
        let several = fixture::run(2, cost);
        let one = fixture::run_of(Scenario { slices: 1, ..several.header.scenario.clone() }, cost);
        let mut search = several.clone();
        search.header.scenario.slo = "p99=10ms".parse().ok();
        for (mut made, response_is_read) in [(several, true), (one, false), (search, false)] {
            let stored = RecordLog::resume(&path, made.clone()).unwrap().into_records();
            assert_eq!(Records::read(&path).unwrap(), stored);
            for (stored, made) in stored.slices.iter().zip(&made.slices) {
                let response_ns = if response_is_read { made.played.hdr.response_ns.clone() } else { String::new() };
                assert_eq!(stored.played.hdr, Hdr { response_ns, ..Hdr::default() });
            }
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains("response_ns") == response_is_read && text.contains("\"hdr\"") == response_is_read);

            made.header.scenario.keep_histograms = true;
            let stored = RecordLog::resume(&path, made.clone()).unwrap().into_records();
            assert_eq!(stored, made);
            assert_eq!(Records::read(&path).unwrap(), made);
        }
    }

    #[test]
    fn a_file_cut_anywhere_gives_back_every_whole_record() {
        let (_folder, path, whole) = logged(2);
        let bytes = fs::read(&path).unwrap();
        let ends: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'\n').collect();
        for cut in [ends[1] + 5, ends[3] + 1, ends[7], bytes.len() - 2] {
            fs::write(&path, &bytes[..cut]).unwrap();
            let read = Records::read(&path).unwrap();
            let complete = bytes[..cut].split(|byte| *byte == b'\n').count() - 1;
            // A last line without its line end is still a record if it is whole.
            let records = 1 + read.slices.len() + read.lanes.len();
            assert!(records == complete || records == complete + 1, "{records} of {complete} at {cut}");
            assert_eq!(read.slices, whole.slices[..read.slices.len()]);
        }
    }

    #[test]
    fn a_round_that_was_cut_short_is_left_out_when_the_run_is_resumed() {
        let (_folder, path, whole) = logged(3);
        let mut cut = whole.clone();
        cut.slices.retain(|slice| slice.round < 2 || slice.slice == 0);
        cut.lanes.retain(|lane| lane.round < 2);
        let kept = cut.of_whole_rounds();
        assert_eq!(kept.rounds_ended(), 2);
        assert!(kept.slices.iter().all(|slice| slice.round < 2) && !kept.slices.is_empty());
        drop(RecordLog::resume(&path, kept.clone()).unwrap());
        assert_eq!(Records::read(&path).unwrap(), kept);
        // The file that was there is kept.
        assert_eq!(Records::read(&path.with_extension("jsonl.bak")).unwrap(), whole);
    }

    #[test]
    fn a_broken_line_in_the_middle_is_named() {
        let (_folder, path, _) = logged(2);
        let mut lines: Vec<String> = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
        lines[4] = "{\"line\":\"slice\"}".into();
        fs::write(&path, lines.join("\n")).unwrap();
        let error = Records::read(&path).unwrap_err().to_string();
        assert!(error.contains("line 5") && error.contains("not a record"), "{error}");
        fs::write(&path, "").unwrap();
        assert!(Records::read(&path).unwrap_err().to_string().contains("must describe the run"));
    }

    #[test]
    fn the_records_of_an_earlier_run_are_kept_beside() {
        let (_folder, path, whole) = logged(1);
        let before = fs::read(&path).unwrap();
        RecordLog::create(&path, whole.header).unwrap();
        assert_eq!(fs::read(path.with_extension("jsonl.bak")).unwrap(), before);
    }
}
