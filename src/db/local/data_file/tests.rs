use std::fs;

use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::NamedTempFile;

use super::*;

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    SetLength(usize),
}

/// Offsets and lengths around the borders of blocks, in a file of up to four of them.
fn position() -> impl Strategy<Value = usize> {
    (0..4_usize, prop_oneof![0..5_usize, 4090..4096_usize])
        .prop_map(|(block, within)| block * BLOCK_BYTES as usize + within)
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (position(), vec(1_u8.., 1..5000)).prop_map(|(offset, data)| Change::Write(offset, data)),
        position().prop_map(Change::SetLength),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn a_held_file_reads_as_if_it_were_written_and_then_is(
        before in vec(any::<u8>(), 0..10_000),
        changes in vec(change(), 0..8),
        reads in vec((position(), 1..5000_usize), 1..8),
    ) {
        let path = NamedTempFile::new().unwrap().into_temp_path();
        fs::write(&path, &before).unwrap();
        let file = Arc::new(File::options().read(true).write(true).open(&path).unwrap());
        let data_file = DataFile::held(&file).unwrap();
        let mut expected = before.clone();
        for change in changes {
            match change {
                Change::Write(offset, data) => {
                    data_file.write(offset as u64, &data).unwrap();
                    expected.resize(expected.len().max(offset + data.len()), 0);
                    expected[offset..offset + data.len()].copy_from_slice(&data);
                }
                Change::SetLength(length) => {
                    data_file.set_len(length as u64).unwrap();
                    expected.resize(length, 0);
                }
            }
        }
        // As redb's header, which every new file gets.
        data_file.write(0, &[1; 320]).unwrap();
        expected.resize(expected.len().max(320), 0);
        expected[..320].fill(1);
        data_file.sync_data().unwrap();
        prop_assert_eq!(&fs::read(&path).unwrap(), &before);
        check_reads(&data_file, &expected, &reads)?;
        data_file.release().unwrap();
        check_reads(&data_file, &expected, &reads)?;
        prop_assert_eq!(fs::read(&path).unwrap(), expected);
    }
}

fn check_reads(
    data_file: &DataFile,
    expected: &[u8],
    reads: &[(usize, usize)],
) -> Result<(), TestCaseError> {
    prop_assert_eq!(data_file.len().unwrap(), expected.len() as u64);
    for &(offset, length) in reads {
        let mut out = vec![0; length];
        let read = data_file.read(offset as u64, &mut out);
        match expected.get(offset..offset + length) {
            Some(expected) => prop_assert_eq!(out, expected),
            None => prop_assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof),
        }
    }
    Ok(())
}
