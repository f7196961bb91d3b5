"""Reads tables through a store's own API, with pyarrow, and no log: what a plain lister sees. S3 by ListObjectsV2 and GET, HDFS by
WebHDFS' LISTSTATUS and OPEN (an endpoint `webhdfs://host:port`).

    zone_reader.py ENDPOINT REGION BUCKET/PREFIX TABLE=COLUMN,COLUMN …      the columns name a row

Each line on stdin asks for one look; each look is answered with one line of JSON: of each table its files, its rows, how many
rows are there twice, files that were there before and are gone, files that could not be read as Parquet. A file is read once:
its name is never used again.
"""

import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import pyarrow
import pyarrow.fs
import pyarrow.parquet


class Objects:
    def __init__(self, fs):
        self.fs = fs

    def sizes(self, root):
        chosen = pyarrow.fs.FileSelector(root, recursive=True, allow_not_found=True)
        return {f.path: f.size for f in self.fs.get_file_info(chosen) if f.is_file}

    def open(self, path, _size):
        return self.fs.open_input_file(path)


# Servers of HDFS that are killed and started again answer what says nothing of a file: 403 ("No active nodes contain this
# block") of a name node that the data node has not yet told its blocks, an error of a data node that is coming up, a part of the
# body, or nothing. All of this passes, so it is asked again; only 404 says something: there is no such file. What still fails
# after this time is reported.
PASSES_SECONDS = 180
ANSWER_SECONDS = 30
BROKEN = (OSError, http.client.HTTPException)  # no connection, or one that broke


def words(answer):
    try:
        return answer.read().decode(errors="replace")
    except BROKEN as error:
        return repr(error)


class WebHdfs:
    def __init__(self, host):
        self.at = f"http://{host}/webhdfs/v1/"

    def ask(self, path, op, size=None):
        until = time.monotonic() + PASSES_SECONDS
        while True:
            try:
                url = f"{self.at}{urllib.parse.quote(path)}?op={op}"
                with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:
                    body = answer.read()
                if size in (None, len(body)):
                    return body
                said = f"{len(body)} of {size} bytes"
            except urllib.error.HTTPError as error:
                if error.code == 404:
                    raise FileNotFoundError(path) from error
                said = f"{error}: {words(error)}"
            except BROKEN as error:
                said = repr(error)
            if time.monotonic() > until:
                raise OSError(said)
            time.sleep(0.2)

    def sizes(self, root):
        found, todo = {}, [root]
        while todo:
            path = todo.pop()
            try:
                listed = json.loads(self.ask(path, "LISTSTATUS"))["FileStatuses"]["FileStatus"]
            except FileNotFoundError:
                continue
            for status in listed:
                below = f"{path}/{status['pathSuffix']}"
                if status["type"] == "DIRECTORY":
                    todo.append(below)
                else:
                    found[below] = status["length"]
        return found

    def open(self, path, size):
        return pyarrow.BufferReader(self.ask(path, "OPEN", size))


def keys(fs, path, size, columns):
    with fs.open(path, size) as file:
        table = pyarrow.parquet.ParquetFile(file).read()
    return list(zip(*(table[c].to_pylist() if c in table.column_names else [None] * len(table) for c in columns)))


class Table:
    def __init__(self, fs, root, columns):
        self.fs, self.root, self.columns = fs, root, columns
        self.files, self.sizes = {}, {}

    def look(self):
        there = {path: size for path, size in self.fs.sizes(self.root).items() if path.endswith(".parquet")}
        gone = [path for path in self.files if path not in there]
        torn = [path for path, size in self.sizes.items() if there.get(path, size) != size]
        for path in gone:
            del self.files[path], self.sizes[path]
        for path, size in there.items():
            if path in self.files:
                continue
            try:
                self.files[path], self.sizes[path] = keys(self.fs, path, size, self.columns), size
            except FileNotFoundError:
                gone.append(path)  # between the list and the look
            except Exception as error:
                torn.append(f"{path}: {error}")
        seen = set()
        for rows in self.files.values():
            seen.update(rows)
        count = sum(map(len, self.files.values()))
        return {"files": len(self.files), "rows": count, "twice": count - len(seen), "gone": gone, "torn": torn}


def main():
    endpoint, region, root, *tables = sys.argv[1:]
    scheme, _, host = endpoint.partition("://")
    if scheme == "webhdfs":
        fs = WebHdfs(host)
    else:
        fs = Objects(
            pyarrow.fs.S3FileSystem(
                access_key=os.environ["AWS_ACCESS_KEY_ID"],
                secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
                endpoint_override=host,
                scheme=scheme,
                region=region,
            )
        )
    named = (table.partition("=") for table in tables)
    tables = {name: Table(fs, f"{root}/{name}", columns.split(",")) for name, _, columns in named}
    for _ in sys.stdin:
        print(json.dumps({name: table.look() for name, table in tables.items()}), flush=True)


main()
