"""The row digest of Parquet files, as the log of a zone says it in `row_digest` (docs/log-format.md).

    pip install pyarrow xxhash
    python row_digest.py FILE.parquet ...
"""
import struct, sys
import pyarrow as pa, pyarrow.parquet as parquet
from xxhash import xxh3_128_intdigest as xxh3

def values(array, seed):
    """One number per value: its hash, or 0 for a null."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return values(array.dictionary_decode(), seed)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        items, ends = words(values(array.values, seed)), array.offsets.to_pylist()
        coded = [b"".join(items[start:end]) for start, end in zip(ends, ends[1:])]
    elif pa.types.is_struct(kind):
        fields = [words(values(field, seed)) for field in array.flatten()]
        coded = [b"".join(parts) for parts in zip(*fields)]
    else:
        if pa.types.is_temporal(kind):  # moments as numbers
            array = array.cast(pa.int32() if pa.types.is_date32(kind) else pa.int64())
        coded = [None if v is None else code(v, kind) for v in array.to_pylist()]
    nulls = array.is_null().to_pylist()
    return [0 if null else xxh3(data, seed) for null, data in zip(nulls, coded)]

def code(value, kind):
    if pa.types.is_decimal(kind):
        sign, digits, exponent = value.as_tuple()
        whole = int("".join(map(str, digits))) * 10 ** (kind.scale + exponent)
        return (-whole if sign else whole).to_bytes(16, "little", signed=True)
    if pa.types.is_floating(kind):
        return struct.pack("<d", value) if value == value else struct.pack("<Q", 0x7FF8 << 48)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_temporal(kind):
        return (int(value) % 2**64).to_bytes(8, "little")
    return value.encode() if isinstance(value, str) else value

def words(numbers):
    return [number.to_bytes(16, "little") for number in numbers]

def row_digest(path):
    total = 0
    for batch in parquet.ParquetFile(path).iter_batches():
        columns = [values(array, xxh3(name.encode()) % 2**64) for name, array in zip(batch.schema.names, batch.columns)]
        total += sum(map(xxh3, words(sum(row) % 2**128 for row in zip(*columns))))
    return f"xxh3:{total % 2**128:032x}"

for path in sys.argv[1:]:
    print(row_digest(path), path)
