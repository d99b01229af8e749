"""Every layout of photos with captions, made by hand, and what is wrong with real ones."""

from __future__ import annotations

import json

import pytest

from captioner.errors import DatasetError
from captioner.training.captions.data import read_captions

CAPTIONS = {f"{name}.jpg": (f"A {name} runs .", f"One {name} , alone") for name in ("ant", "bee", "cow", "dog")}
SPLITS = {"ant.jpg": "train", "bee.jpg": "train", "cow.jpg": "dev", "dog.jpg": "test"}


@pytest.fixture
def folder(tmp_path):
    """The four photos; nothing here looks into them."""
    for name in CAPTIONS:
        photo(tmp_path / "photos" / name)
    return tmp_path


def photo(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"JPEG")


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def karpathy(folder):
    names = {"train": "restval", "dev": "val", "test": "test"}
    images = [
        {"filename": name, "split": names[SPLITS[name]], "sentences": [{"raw": text, "tokens": []} for text in texts]}
        for name, texts in CAPTIONS.items()
    ]
    write(folder / "dataset_flickr8k.json", {"images": images, "dataset": "flickr8k"})


def karpathy_with_folders(folder):
    karpathy(folder)
    record = json.loads((folder / "dataset_flickr8k.json").read_text())
    for image in record["images"]:
        image["filepath"] = "val2014"
    write(folder / "dataset_coco.json", record)
    (folder / "dataset_flickr8k.json").unlink()


def coco(folder):
    for split, name in {"train": "train2017", "dev": "val2017", "test": "test2017"}.items():
        files = [file for file in CAPTIONS if SPLITS[file] == split]
        record = {
            "images": [{"id": i, "file_name": file} for i, file in enumerate(files)],
            "annotations": [
                {"image_id": i, "id": 7, "caption": text} for i, file in enumerate(files) for text in CAPTIONS[file]
            ],
        }
        write(folder / "annotations" / f"captions_{name}.json", record)


def token_file(folder, name="Flickr8k.token.txt", newline="\n"):
    lines = [f"{file}#{i}\t{text}" for file, texts in CAPTIONS.items() for i, text in enumerate(texts)]
    write(folder / name, newline.join(lines) + newline)
    for split in ("train", "dev", "test"):
        files = [file for file in CAPTIONS if SPLITS[file] == split]
        write((folder / name).parent / f"Flickr_8k.{split}Images.txt", newline.join(files) + newline)


def token_file_of_windows(folder):
    token_file(folder, newline="\r\n")


def token_file_as_it_comes(folder):
    """The folder of the original archive, with the lemmas beside the captions."""
    token_file(folder, "Flickr8k_text/Flickr8k.token.txt")
    lemmas = "".join(f"{file}#0\tA thing be run .\n" for file in CAPTIONS)
    write(folder / "Flickr8k_text" / "Flickr8k.lemma.token.txt", lemmas)


def kaggle(folder):
    rows = [f'{file},"{text}",{SPLITS[file]}' for file, texts in CAPTIONS.items() for text in texts]
    write(folder / "captions.txt", "\ufeffimage,caption,split\n" + "\n".join(rows))


def metadata_jsonl(folder):
    rows = [
        {"file_name": f"photos/{file}", "captions": list(texts), "split": SPLITS[file]}
        for file, texts in CAPTIONS.items()
    ]
    write(folder / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def metadata_jsonl_with_text(folder):
    rows = [
        {"file_name": file, "text": text, "split": SPLITS[file]} for file, texts in CAPTIONS.items() for text in texts
    ]
    write(folder / "metadata.jsonl", "\n".join(map(json.dumps, rows)))


def list_of_files(folder):
    rows = [{"file": file, "captions": list(texts), "split": SPLITS[file]} for file, texts in CAPTIONS.items()]
    write(folder / "captions.json", rows)


LAYOUTS = [
    karpathy,
    karpathy_with_folders,
    coco,
    token_file,
    token_file_of_windows,
    token_file_as_it_comes,
    kaggle,
    metadata_jsonl,
    metadata_jsonl_with_text,
    list_of_files,
]


def bare(name):
    return name.rsplit("/", 1)[-1]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(folder, layout):
    layout(folder)
    data = read_captions(folder)
    assert {bare(name): texts for name, texts in data.captions.items()} == CAPTIONS
    assert {bare(name): path for name, path in data.images.items()} == {n: folder / "photos" / n for n in CAPTIONS}
    assert [tuple(map(bare, data.split(name))) for name in ("train", "dev", "test")] == [
        ("ant.jpg", "bee.jpg"),
        ("cow.jpg",),
        ("dog.jpg",),
    ]
    assert data.split("val") == data.split("validation") == data.split("dev")
    assert set(data.split("all")) == set(data.images)
    assert data.references(data.split("dev")) == {data.split("dev")[0]: list(CAPTIONS["cow.jpg"])}
    assert data.warnings == ()


def test_a_folder_for_every_split(tmp_path):
    """The layout of Hugging Face: the same file names in every folder, each with its own table."""
    for split in ("train", "validation", "test"):
        for number in range(2):
            photo(tmp_path / split / f"{number}.png")
        rows = [{"file_name": f"{number}.png", "text": f"a {split} photo {number}"} for number in range(2)]
        write(tmp_path / split / "metadata.jsonl", "\n".join(map(json.dumps, rows)))
    data = read_captions(tmp_path)
    assert data.split("dev") == ("validation/0.png", "validation/1.png")
    assert data.captions["test/1.png"] == ("a test photo 1",)
    assert data.images["train/0.png"] == tmp_path / "train" / "0.png"
    assert len(data.images) == 6 and not data.warnings


def test_a_number_sign_in_a_name(folder):
    photo(folder / "a#b.jpg")
    write(folder / "x.token", "a#b.jpg#0\tA letter\nant.jpg#0\tAn ant\ncow.jpg#0\tA cow\n")
    write(folder / "trainImages.txt", "a#b.jpg\nant.jpg")
    write(folder / "devImages.txt", "cow.jpg")
    assert read_captions(folder).split("train") == ("a#b.jpg", "ant.jpg")


def test_without_splits_they_are_drawn(tmp_path):
    files = [f"{number}.png" for number in range(20)]
    for file in files:
        photo(tmp_path / file)
    write(tmp_path / "captions.json", [{"file": file, "captions": "one caption"} for file in files])
    data = read_captions(tmp_path)
    sizes = [len(data.split(name)) for name in ("train", "dev", "test")]
    assert sizes == [16, 2, 2] and "no splits: 16 train, 2 dev, 2 test" in data.warnings[0]
    assert sorted(data.split("train") + data.split("dev") + data.split("test")) == sorted(files)
    assert data.splits == read_captions(tmp_path).splits
    assert data.splits != read_captions(tmp_path, seed=1).splits
    assert data.captions["0.png"] == ("one caption",)


def test_what_is_left_out_is_said(folder):
    token_file(folder)
    with open(folder / "Flickr8k.token.txt", "a") as file:
        file.write("elk.jpg.1#0\tAn elk\nfox.jpg#0\t  \n")
    with open(folder / "Flickr_8k.trainImages.txt", "a") as file:
        file.write("gnu.jpg\n")
    photo(folder / "photos" / "hen.jpg")
    data = read_captions(folder)
    assert list(data.images) == list(CAPTIONS)
    assert data.warnings == (
        "captions without a photo, left out (1): 'elk.jpg.1'",
        "photos without a caption, left out (2): 'fox.jpg', 'gnu.jpg'",
        "photos in the folder that have no caption (1): 'photos/hen.jpg'",
    )


def test_a_photo_belongs_to_one_name(tmp_path):
    photo(tmp_path / "cats" / "1.png")
    rows = [{"file_name": f"{kind}/1.png", "text": f"one of the {kind}"} for kind in ("dogs", "cats")]
    write(tmp_path / "metadata.jsonl", "\n".join(map(json.dumps, rows)))
    data = read_captions(tmp_path)
    assert list(data.images) == ["cats/1.png"]
    assert "without a photo, left out (1): 'dogs/1.png'" in data.warnings[0]


def test_a_bare_name_that_two_photos_have_means_neither(folder):
    photo(folder / "copy" / "ant.jpg")
    token_file(folder)
    data = read_captions(folder)
    assert "ant.jpg" not in data.images and "ant.jpg" in data.warnings[0]


def test_a_split_that_nobody_uses_is_said(folder):
    kaggle(folder)
    text = (folder / "captions.txt").read_text().replace(",test", ",extra")
    write(folder / "captions.txt", text)
    assert read_captions(folder).warnings == ("the splits extra are not used: only train, dev, test are",)


def test_an_empty_split_is_refused(folder):
    token_file(folder)
    write(folder / "Flickr_8k.devImages.txt", "")
    data = read_captions(folder)
    with pytest.raises(DatasetError, match=r"the split 'dev' has no photos; there are: train \(2\), test \(1\)"):
        data.split("dev")
    with pytest.raises(DatasetError, match="'holiday'"):
        data.split("holiday")


@pytest.mark.parametrize("layout", [token_file, kaggle])
def test_overlapping_splits_are_refused(folder, layout):
    layout(folder)
    if layout is token_file:
        write(folder / "Flickr_8k.devImages.txt", "cow.jpg\nant.jpg\n")
    else:
        with open(folder / "captions.txt", "a") as file:
            file.write("\nant.jpg,An ant,dev")
    with pytest.raises(DatasetError, match=r"ant\.jpg is in the splits train and dev"):
        read_captions(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dataset_x.json", '{"images": [{"filen', "dataset_x.json: not valid JSON"),
        ("dataset_x.json", "[" * 100_000, "dataset_x.json: not valid JSON"),
        ("dataset_x.json", '{"images": [{"filename": "ant.jpg"}]}', "dataset_x.json: not in the layout"),
        ("captions_train.json", "[]", "captions_train.json: not in the layout"),
        ("captions_train.json", '{"images": [], "annotations": [{"image_id": 5}]}', "captions_train.json: not in"),
        ("x.token", "\n\nant.jpg#0 An ant", "line 3 has no tab"),
        ("captions.txt", "ant.jpg,An ant\n", "must name the columns"),
        ("captions.txt", "", "must name the columns"),
        ("captions.txt", "image,caption\nant.jpg," + "a" * 200_000, "captions.txt: not in the layout"),
        ("metadata.jsonl", '{"file_name": "ant.jpg", "text": "An ant"}\n{', "metadata.jsonl: line 2 is not valid JSON"),
        ("metadata.jsonl", '{"file": "ant.jpg"}', "metadata.jsonl: not in the layout"),
        ("captions.json", '[{"file": "ant.jpg", "captions": [null]}]', "captions.json: not in the layout"),
        (
            "captions.json",
            '[{"file": "nowhere.jpg", "captions": ["A dog"]}]',
            "none of the 1 captioned photos was found",
        ),
        ("captions.json", "[]", "none of the 0 captioned photos"),
        ("readme.txt", "hello", "no captions found; looked for dataset_"),
    ],
)
def test_damaged_files_are_named(folder, name, content, message):
    write(folder / name, content)
    with pytest.raises(DatasetError, match=message) as error:
        read_captions(folder)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize(
    ("row", "caption"),
    [
        ("ant.jpg,a dog , brown , runs", "a dog , brown , runs"),
        ("ant.jpg,a dog,brown,runs", "a dog,brown,runs"),
        ('ant.jpg,"a dog, brown, runs"', "a dog, brown, runs"),
        ('ant.jpg, "a dog, ""rex"", runs" ', 'a dog, "rex", runs'),
        ('ant.jpg,a dog "rex", brown', 'a dog "rex", brown'),
        ('ant.jpg,"rex" runs', '"rex" runs'),
        ('ant.jpg,"rex", a dog, runs', '"rex", a dog, runs'),
        ('"ant.jpg",a dog, brown', "a dog, brown"),
        ("ant.jpg,a dog,", "a dog,"),
        ('ant.jpg,5" of snow, a dog', '5" of snow, a dog'),
    ],
)
def test_commas_in_the_last_column_belong_to_the_caption(folder, row, caption):
    write(folder / "captions.txt", f"image,caption\r\n{row}\r\n")
    assert read_captions(folder).captions == {"ant.jpg": (caption,)}


def test_names_in_quotes_hold_commas(folder):
    photo = next(folder.rglob("ant.jpg"))
    photo.rename(photo.with_name("an, ant.jpg"))
    write(folder / "captions.txt", 'image,split,caption\n"an, ant.jpg",train,small , black\n')
    assert read_captions(folder).captions == {"an, ant.jpg": ("small , black",)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'image,caption\nant.jpg,a dog\n\nant.jpg,"a dog runs\nbee.jpg,a cat\nbee.jpg,"a bird"\n',
            "line 4: a quote is",
        ),
        ('image,caption\nant.jpg,"a dog\nbee.jpg,a cat"\n', "line 2: a quote is opened and not closed on the line"),
        ('image,caption\nant.jpg,"a dog', "line 2: a quote is"),
        ('image,caption,split\nant.jpg,"a dog,train\nbee.jpg,a cat,train\n', "line 2: a quote is"),
        ("image,caption,split\nant.jpg,a dog , brown,train\n", "line 2: has more than 3 columns"),
    ],
)
def test_captions_that_run_into_other_cells_are_named(folder, text, message):
    write(folder / "captions.txt", text)
    with pytest.raises(DatasetError, match=rf"captions\.txt: {message}"):
        read_captions(folder)


def test_a_file_that_is_no_text_is_named(folder):
    (folder / "captions.txt").write_bytes(b"image,caption\nant.jpg,\xff\xfe")
    with pytest.raises(DatasetError, match=r"captions\.txt: not UTF-8 text"):
        read_captions(folder)


def test_no_such_folder(tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        read_captions(tmp_path / "nowhere")


@pytest.mark.data
def test_the_real_data(shared):
    data = read_captions(shared / "flickr8k")
    assert [len(data.split(name)) for name in ("train", "dev")] == [6000, 1000]
    assert len(data.images) == 7091 and all(len(texts) == 5 for texts in data.captions.values())
    assert not data.warnings
