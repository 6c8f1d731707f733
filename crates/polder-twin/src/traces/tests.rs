//! Tests of the readers: what formats say is read, what cannot be used is counted with its line.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

fn read(format: Format, text: &str) -> (Vec<Job>, Wrong) {
    let path = std::env::temp_dir().join(format!("polder-twin-trace-{}-{format:?}-{}", std::process::id(), text.len()));
    std::fs::write(&path, text).unwrap();
    let mut reading = Traced { format, path: path.clone(), processors_per_accelerator: 4 }.open().unwrap();
    let jobs = std::iter::from_fn(|| reading.next_job().unwrap()).collect();
    std::fs::remove_file(path).unwrap();
    (jobs, reading.wrong().clone())
}

#[test]
fn the_standard_workload_format() {
    let text = "; UnixStartTime: 0\n\n\
1 100 5 60 8 -1 -1 8 120 -1 1 1 1 1 1 1 -1 -1\n\
2 160 5 30 -1 -1 -1 6 -1 -1 1 1 1 1 1 1 -1 -1\n\
3 170 5 -1 8 -1 -1 8 120 -1 5 1 1 1 1 1 -1 -1\n\
4 150 5 60 8 -1 -1 8 120 -1 1 1 1 1 1 1 -1 -1\n\
5 180 5 sixty 8 -1 -1 8 120 -1 1 1 1 1 1 1 -1 -1\n\
6 180 5 60\n\
7 190 5 60 0 -1 -1 -1 120 -1 1 1 1 1 1 1 -1 -1\n";
    let (jobs, wrong) = read(Format::Swf, text);
    let told: Vec<_> = jobs.iter().map(|job| (job.at_us, job.units, job.run_us, job.limit_us)).collect();
    assert_eq!(told, [(0, 2, 60_000_000, 120_000_000), (60_000_000, 2, 30_000_000, 30_000_000)]);
    assert_eq!(wrong.count, 5);
    assert_eq!(wrong.first.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [5, 6, 7, 8, 9]);
    assert!(wrong.first[1].1.contains("back in time") && wrong.first[3].1.contains("4 fields"), "{wrong:?}");
}

#[test]
fn the_azure_trace() {
    let text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n\
2023-11-16 18:15:50.9951690,396,109\nnever,1,2\n2023-11-16 18:16:00.0,-3,1\n2023-11-16 25:16:00.0,3,1\n2023-11-17 18:15:46.6805900,1,0\n";
    let (jobs, wrong) = read(Format::AzureLlm, text);
    let told: Vec<_> = jobs.iter().map(|job| (job.at_us, job.units, job.prompt, job.generated)).collect();
    assert_eq!(told, [(0, 1, 374, 44), (4_314_579, 1, 396, 109), (86_400_000_000, 1, 1, 1)]);
    assert_eq!((wrong.count, wrong.first[0].0), (3, 4));
}

#[test]
fn the_mooncake_trace() {
    let text = "{\"timestamp\": 0, \"input_length\": 6758, \"output_length\": 500, \"hash_ids\": [0, 1]}\n\
{\"timestamp\": 12, \"input_length\": 5}\nnothing\n{\"timestamp\": 3000, \"input_length\": 7, \"output_length\": 9, \"hash_ids\": []}";
    let (jobs, wrong) = read(Format::Mooncake, text);
    let told: Vec<_> = jobs.iter().map(|job| (job.at_us, job.prompt, job.generated)).collect();
    assert_eq!(told, [(0, 6_758, 500), (3_000_000, 7, 9)]);
    assert_eq!((wrong.count, wrong.first[0].0, wrong.first[1].0), (2, 2, 3));
}

#[test]
fn a_line_without_end_does_not_fill_the_memory() {
    let text = format!("{}\n1 100 5 60 8 -1 -1 8 120 -1 1 1 1 1 1 1 -1 -1\n", "9".repeat(3 << 20));
    let (jobs, wrong) = read(Format::Swf, &text);
    assert_eq!((jobs.len(), wrong.count, wrong.first[0].0), (1, 1, 1));
}

#[test]
fn a_fork_reads_on_from_the_same_place() {
    let line = |at: u64| format!("{at} {at} 5 60 8 -1 -1 8 120 -1 1 1 1 1 1 1 -1 -1\n");
    let text: String = (1..50).map(line).collect();
    let path = std::env::temp_dir().join(format!("polder-twin-fork-{}", std::process::id()));
    std::fs::write(&path, text).unwrap();
    let mut reading = Traced { format: Format::Swf, path: path.clone(), processors_per_accelerator: 1 }.open().unwrap();
    assert_eq!(std::iter::from_fn(|| reading.next_job().unwrap()).take(20).count(), 20);
    let mut fork = reading.fork().unwrap();
    let rest = |reading: &mut Reading| std::iter::from_fn(|| reading.next_job().unwrap()).collect::<Vec<_>>();
    let left = rest(&mut reading);
    assert_eq!((left.len(), left), (29, rest(&mut fork)));
    std::fs::remove_file(path).unwrap();
}

/// Parquet files are written here, so that none has to be shipped.
#[cfg(feature = "parquet")]
#[test]
fn tasks_in_parquet() {
    use parquet::data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type};
    use parquet::file::writer::SerializedFileWriter;
    let schema = "message tasks { optional binary id (UTF8); optional int64 submission_time (TIMESTAMP(MICROS,false)); \
optional int64 duration; optional int32 cpu_count; }";
    let schema = std::sync::Arc::new(parquet::schema::parser::parse_message_type(schema).unwrap());
    let path = std::env::temp_dir().join(format!("polder-twin-tasks-{}.parquet", std::process::id()));
    let file = File::create(&path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, std::sync::Arc::default()).unwrap();
    for group in 0..2_i64 {
        let mut rows = writer.next_row_group().unwrap();
        let levels = [1_i16, 1, 1];
        let mut column = rows.next_column().unwrap().unwrap();
        let ids = ["a", "b", "c"].map(ByteArray::from);
        column.typed::<ByteArrayType>().write_batch(&ids, Some(&levels), None).unwrap();
        column.close().unwrap();
        let mut column = rows.next_column().unwrap().unwrap();
        let at = [5_000_000, 6_000_000, 7_000_000].map(|us| us + group * 10_000_000);
        column.typed::<Int64Type>().write_batch(&at, Some(&levels), None).unwrap();
        column.close().unwrap();
        let mut column = rows.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&[1_500, 2_500], Some(&[1, 0, 1]), None).unwrap();
        column.close().unwrap();
        let mut column = rows.next_column().unwrap().unwrap();
        column.typed::<Int32Type>().write_batch(&[16, 16, 3], Some(&levels), None).unwrap();
        column.close().unwrap();
        rows.close().unwrap();
    }
    writer.close().unwrap();
    let mut reading =
        Traced { format: Format::Tasks, path: path.clone(), processors_per_accelerator: 4 }.open().unwrap();
    let jobs: Vec<Job> = std::iter::from_fn(|| reading.next_job().unwrap()).collect();
    let told: Vec<_> = jobs.iter().map(|job| (job.at_us, job.units, job.run_us)).collect();
    let second = 1_000_000;
    assert_eq!(
        told,
        [(0, 4, 1_500_000), (2 * second, 1, 2_500_000), (10 * second, 4, 1_500_000), (12 * second, 1, 2_500_000)]
    );
    assert_eq!(reading.wrong().first.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [2, 5]);
    std::fs::remove_file(path).unwrap();
}

#[cfg(not(feature = "parquet"))]
#[test]
fn without_parquet_its_files_are_refused() {
    let path = std::env::temp_dir().join(format!("polder-twin-no-{}.parquet", std::process::id()));
    std::fs::write(&path, "PAR1").unwrap();
    let traced = Traced { format: Format::Tasks, path: path.clone(), processors_per_accelerator: 1 };
    assert!(traced.open().unwrap_err().to_string().contains("--features parquet"));
    std::fs::remove_file(path).unwrap();
}
