from avexp.report.sweep_plots import _ends, _scaled


def test_lists_lie_by_their_numbers_and_words_by_their_letters():
    texts = ["[16,32]", "[8,16]", None, "[24,48]"]
    assert list(_scaled(texts))[:2] == [0.5, 0.0]
    assert _ends(texts) == ("[8,16]", "[24,48]")
    assert _ends(["sgd", "adamw"]) == ("adamw", "sgd")
