"""Tables of boxes under the names that people give to columns."""

import pytest

from boxrl.data.formats.csv_tables import read_csv
from boxrl.data.formats.reading import Rejected
from boxrl.errors import DataError, UsageError
from boxrl.types import Sample
from tests.support.archives import boxes_of, write_image

BOX = (10, 10, 60, 50)


@pytest.fixture
def images(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        write_image(tmp_path / "images" / name, (200, 100))
    return tmp_path / "images"


def read(tmp_path, images, text, **options):
    """(samples, reasons, what was told)."""
    (tmp_path / "x.csv").write_text(text)
    reading = read_csv(tmp_path / "x.csv", images, **options)
    rows = list(reading.rows)
    samples = [row for row in rows if isinstance(row, Sample)]
    return samples, [row.reason for row in rows if isinstance(row, Rejected)], reading.told()


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,200,100,dog,10,10,60,50\n", {}),
        ("\ufefffilename,class,xmin,ymin,xmax,ymax\na.jpg,dog,10,10,60.0,50\n", {}),
        ("image_id;class_name;x_min;y_min;x_max;y_max\na;dog;10;10;60;50\n", {}),
        ("frame,xmin,xmax,ymin,ymax,class_id\na.jpg,10,60,10,50,dog\n", {}),
        ("image,x,y,width,height,label\na.jpg,10,10,50,40,dog\n", {}),
        ("image,left,top,width,height,label\na.jpg,10,10,50,40,dog\n", {}),
        ("image_id,width,height,bbox,label\na,200,100,\"[10, 10, 50, 40]\",dog\n",
         {"boxes": "xywh"}),
        ("image,xmin,ymin,xmax,ymax\na.jpg,10,10,60,50\n", {"label": "dog"}),
        ("image,class,xmin,ymin,xmax,ymax,name\na.jpg,0,10,10,60,50,dog\n", {}),
        ("a.jpg,10,10,60,50,dog\n", {}),
        ("image_id,annotations\na,\"[{'x': 10, 'y': 10, 'width': 50, 'height': 40}]\"\n",
         {"label": "dog"}),
        ("data\\images\\a.jpg,10,10,60,50,dog\n", {}),
    ],
)  # fmt: skip
def test_a_box_under_whichever_columns(tmp_path, images, text, options):
    (sample,), reasons, _ = read(tmp_path, images, text, **options)
    assert (sample.id, sample.image, sample.size_wh) == ("a", "a.jpg", (200, 100))
    assert (boxes_of(sample), reasons) == ([("dog", BOX)], [])


def test_the_image_s_own_width_and_height_beside_those_of_its_boxes(tmp_path, images):
    for sides in ("width,height", "image_width,image_height"):
        text = f"image,x,y,w,h,{sides},label\na.jpg,10,10,50,40,400,300,dog\n"
        (sample,), _, _ = read(tmp_path, images, text)
        assert (sample.size_wh, boxes_of(sample)) == ((400, 300), [("dog", BOX)])


def test_splits_that_are_read_as_one_are_told(tmp_path, images):
    text = "image,xmin,ymin,xmax,ymax,label,split\na.jpg,10,10,60,50,dog,train\n"
    assert not any("as one" in note for note in read(tmp_path, images, text)[2])
    _, _, notes = read(tmp_path, images, text + "b.jpg,10,10,60,50,dog,test\n")
    assert "the splits test, train are read as one; part the file by this column" in notes


@pytest.mark.parametrize("column", ["split", "path", "file"])
def test_a_name_that_rows_give_to_several_images_is_refused(tmp_path, images, column):
    rows = ("a.jpg,10,10,60,50,dog,train", "a.jpg,1,1,9,9,cat,valid", "b.jpg,1,1,9,9,cat,valid")
    text = "\n".join((f"filename,xmin,ymin,xmax,ymax,label,{column}", *rows))
    (sample,), reasons, _ = read(tmp_path, images, text)
    assert sample.image == "b.jpg"
    assert "'a.jpg' is the name of several images, of 'train' and of 'valid'" in reasons[0]
    (sample, _), reasons, _ = read(tmp_path, images, text.replace("cat,valid", "cat,", 1))
    assert (boxes_of(sample), reasons) == ([("dog", BOX), ("cat", (1, 1, 9, 9))], [])


def test_rows_of_an_image_need_not_stand_together_and_commas_may_be_quoted(tmp_path, images):
    text = 'filename,class,xmin,ymin,xmax,ymax\na.jpg,"red, big",1,2,30,40\nb.jpg,x,1,2,3,4\n'
    samples, _, _ = read(tmp_path, images, text + "a.jpg,dog,10,10,60,50\n", mode="all")
    assert [sample.id for sample in samples] == ["a", "b"]
    assert boxes_of(samples[0]) == [("red, big", (1, 2, 30, 40)), ("dog", BOX)]


def test_lines_may_end_as_on_any_system(tmp_path, images):
    for end in ("\n", "\r\n", "\r"):
        text = end.join(("filename,class,xmin,ymin,xmax,ymax", "a.jpg,dog,10,10,60,50", ""))
        (sample,), reasons, _ = read(tmp_path, images, text)
        assert (boxes_of(sample), reasons) == ([("dog", BOX)], [])


def test_a_row_without_a_box_is_an_image_without_objects(tmp_path, images):
    text = "filename,class,xmin,ymin,xmax,ymax\na.jpg,dog,10,10,60,50\nb.jpg,No finding,,,,\n"
    samples, _, _ = read(tmp_path, images, text, mode="all")
    assert [(sample.id, sample.labels) for sample in samples] == [("a", ("dog",)), ("b", ("dog",))]
    assert samples[1].is_negative


def test_a_label_without_a_box_is_not_asked_for_in_its_image(tmp_path, images):
    text = "filename,class,xmin,ymin,xmax,ymax\na.jpg,dog,10,10,60,50\na.jpg,cat,,,,\n"
    text += "b.jpg,dog,,,,\nb.jpg,cat,10,10,60,50\nb.jpg,dog,10,10,60,50\n"
    samples, reasons, _ = read(tmp_path, images, text, mode="all")
    assert [sample.labels for sample in samples] == [("dog",), ("cat",)]
    assert ([sample.meta["unverified"] for sample in samples], reasons) == ([["cat"], ["dog"]], [])


def test_the_form_of_a_column_of_boxes_is_told_or_asked_for(tmp_path, images):
    head = "image_id,bbox,label,width,height\n"
    samples, _, _ = read(tmp_path, images, head + 'a,"[100, 10, 60, 50]",dog,200,100\n')
    assert boxes_of(samples[0]) == [("dog", (100, 10, 160, 60))]
    samples, _, _ = read(tmp_path, images, head + 'a,"[100, 10, 160, 60]",dog,200,100\n')
    assert boxes_of(samples[0]) == [("dog", (100, 10, 160, 60))]
    with pytest.raises(UsageError, match="say which with --boxes xywh or --boxes xyxy"):
        read(tmp_path, images, head + 'a,"[10, 10, 60, 50]",dog,200,100\n')


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.jpg,dog,10,10,300,50", "leaves the image"),
        ("a.jpg,dog,60,10,10,50", "flipped corners"),
        ("a.jpg,dog,x,10,60,50", "four finite numbers"),
        ("a.jpg,,10,10,60,50", "'label' must be of type str"),
        ("a.jpg,nan,10,10,60,50", "'label' must be of type str"),
        ("gone.jpg,dog,10,10,60,50", "no image"),
    ],
)
def test_a_bad_row_is_told_by_its_line_and_hides_its_label(tmp_path, images, row, reason):
    text = f"filename,class,xmin,ymin,xmax,ymax\na.jpg,dog,10,10,60,50\n{row}\n"
    samples, reasons, _ = read(tmp_path, images, text, mode="all")
    assert "x.csv:3: " in reasons[0]
    assert reason in reasons[0]
    assert [sample.image for sample in samples] == (["a.jpg"] if "gone" in row else [])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("filename,class,left\na.jpg,dog,1\n", "columns 'filename, class, left'"),
        ("filename,class,xmin,ymin,xmax,ymax\na.jpg,dog,.1,.1,.6,.5\n", "shares of the image"),
        ("filename,xmin,ymin,xmax,ymax\na.jpg,10,10,60,50\n", "--label NAME"),
        ("ImageID,LabelName,XMin,XMax,YMin,YMax\na,/m/1,0,1,0,1\n", "class-descriptions"),
        ("image,label,x1,y1,x2,y2,x3,y3,x4,y4\na.jpg,dog,9,5,9,9,5,9,5,5\n", "no upright box"),
        ("", "columns ''"),
        ("filename,xmin,ymin,xmax,ymax,class\na.jpg,10,10,60,50,dog, big\n", "x.csv:2: 7 cells"),
        ("a.jpg,10,10,60,50,dog, big\n", "columns 'a.jpg, 10"),
        ("a.jpg,10,10,60,50,dog\nb.jpg,10,10,60,50,dog, big\n", "x.csv:2: 7 cells, where there"),
    ],
)
def test_a_table_that_cannot_be_read_is_told(tmp_path, images, text, reason):
    with pytest.raises((DataError, UsageError), match=reason):
        read(tmp_path, images, text)


def test_images_in_no_row_and_labels_verified_present_without_a_box(tmp_path, images):
    (tmp_path / "class-descriptions-boxable.csv").write_text("/m/1,Dog\n/m/2,Cat\n/m/3,Car\n")
    said = "ImageID,Source,LabelName,Confidence\na,v,/m/2,1\na,v,/m/3,0\n"
    (tmp_path / "train-annotations-human-imagelabels-boxable.csv").write_text(said)
    table = tmp_path / "train-annotations-bbox.csv"
    table.write_text("ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\na,/m/1,.05,.3,.1,.5,0\n")
    for annotations in (table, tmp_path):
        reading = read_csv(annotations, images, mode="all")
        (sample,) = reading.rows
        assert boxes_of(sample) == [("Dog", pytest.approx(BOX))]
        assert sample.labels == ("Dog", "Car")
        assert sample.meta["unverified"] == ["Cat"]
    assert "1 image in no row left out, such as 'b.jpg'" in reading.told()
