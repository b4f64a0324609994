//! The bytes of the catalog's values, fixed: a change here is a change of the format on disk.

use super::*;

fn digest(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

fn hexes(byte: &str) -> String {
    byte.repeat(32)
}

#[test]
fn bytes_of_a_layer_are_fixed() {
    let mut layer = LayerHead {
        no: LayerNo(300),
        diff: DiffId(digest(1)),
        parent: Some(ChainId(digest(2))),
        content_bytes: 5,
    };
    let golden = format!("01ac02{}01{}05", hexes("01"), hexes("02"));
    assert_eq!(hex::encode(layer.encode()), golden);
    assert_eq!(LayerHead::decode(&layer.encode()), Some(layer.clone()));
    layer.parent = None;
    assert_eq!(
        hex::encode(layer.encode()),
        format!("01ac02{}0005", hexes("01"))
    );
    assert_eq!(LayerHead::decode(&layer.encode()), Some(layer));
}

#[test]
fn bytes_of_a_record_are_fixed() {
    let record = RecordHead {
        no: RecordNo(7),
        content_bytes: 128,
        tar_bytes: 10240,
        entries: 3,
        marks: 1,
        entry_chunks: 1,
        header_chunks: 2,
        archives: vec![ReceivedArchive {
            id: ArchiveId(digest(9)),
            bytes: 99,
            kept: true,
        }],
    };
    let golden = format!("0107800180500301010201{}6301", hexes("09"));
    assert_eq!(hex::encode(record.encode()), golden);
    assert_eq!(RecordHead::decode(&record.encode()), Some(record));
}

#[test]
fn bytes_of_an_image_are_fixed() {
    let image = ImageRecord {
        config: b"{}".to_vec(),
        layers: vec![
            ImageLayer {
                diff: DiffId(digest(1)),
                archive: Some((ArchiveId(digest(2)), 9)),
                content_bytes: 4,
            },
            ImageLayer {
                diff: DiffId(digest(3)),
                archive: None,
                content_bytes: 0,
            },
        ],
        manifests: vec![ManifestId(digest(4))],
        parent: Some(ImageId(digest(5))),
        tagged_at: -1,
    };
    let layers = format!("02{}0401{}09{}0000", hexes("01"), hexes("02"), hexes("03"));
    let golden = format!("01027b7d{layers}01{}01{}01", hexes("04"), hexes("05"));
    assert_eq!(hex::encode(image.encode()), golden);
    assert_eq!(ImageRecord::decode(&image.encode()), Some(image));
}

#[test]
fn truncated_values_are_damage() {
    let layer = LayerHead {
        no: LayerNo(1),
        diff: DiffId(digest(1)),
        parent: None,
        content_bytes: 1,
    };
    let bytes = layer.encode();
    for len in 0..bytes.len() {
        assert_eq!(LayerHead::decode(&bytes[..len]), None);
    }
    let longer = [bytes, vec![0]].concat();
    assert_eq!(LayerHead::decode(&longer), None);
    assert_eq!(decode_upper(&[1]), None);
    assert_eq!(decode_manifest(&[1, 3, b'x']), None);
}
