"""ANNCUR's tokens, encoders and losses: parity with the official code, closed forms, and where gradients go."""

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F

from common.data.linking import Domain, Entity, Mention
from common.errors import UserError
from common.foundations.masked_lm import FOLLOWS, IGNORED
from projects.anncur.data import LinkingData
from projects.anncur.distill import hard_negatives, match_loss
from projects.anncur.encoders import (
    BertSizes,
    CrossEncoder,
    DualEncoder,
    all_scores,
    build,
    dot_scores,
    pair_inputs,
    pair_tokens,
    tag_embeddings,
)
from projects.anncur.linking import END, START, TITLE, Corpus, item_ids, padded, query_ids, split
from projects.anncur.pretrain import MASKED, REPLACED, PairReading, TextPairs, hide, mean_loss
from projects.anncur.ranker import Ranker, positive_first
from projects.anncur.train import mine, random_negatives
from projects.anncur.world import LinkingWorld
from tests.golden import golden_file

GOLDEN = golden_file("anncur")
needs_golden = pytest.mark.skipif(not GOLDEN.is_file(), reason=f"no golden vectors at {GOLDEN} (set GOLDEN_ROOT)")
TINY = BertSizes(vocab_size=40, hidden_size=16, layers=1, heads=2, positions=32, dropout=0.0)


def golden(case: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, str]]:
    """Inputs, outputs and metadata of one case."""
    with safe_open(GOLDEN, "pt") as file:
        keys = [key for key in file.keys() if key.startswith(f"{case}/")]  # noqa: SIM118
        parts = [{k.split(f"/{p}.")[1]: file.get_tensor(k) for k in keys if f"/{p}." in k} for p in ("in", "out")]
        meta = {k.split("/")[1]: v for k, v in file.metadata().items() if k.startswith(f"{case}/")}
    return *parts, meta


def tokens(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries [3, 8] and candidates [3, 4, 7] in the layout of `linking.py`."""
    rng = np.random.default_rng(seed)

    def words(count: int) -> list[int]:
        return rng.integers(8, 40, count).tolist()

    queries = [query_ids(words(n), words(1), words(2), 8, 5, 6, START, END) for n in (0, 1, 4)]
    items = [item_ids(words(1), words(n), 7, 5, 6) for n in (1, 2, 3, 9) * 3]
    return padded(queries, 8), padded(items, 7).view(3, 4, 7)


@needs_golden
@pytest.mark.parametrize("case", [f"query_trunc{i}" for i in range(4)])
def test_golden_query_tokens(case):
    given, expected, meta = golden(case)
    length = int(meta["max_len"])
    sides = [given[part].tolist() for part in ("left", "mention", "right")]
    special = {
        name: int(meta[key])
        for name, key in {"cls": "cls", "sep": "sep", "start": "start_tag", "end": "end_tag"}.items()
    }
    assert padded([query_ids(*sides, length, **special)], length)[0].tolist() == expected["ids"].tolist()


@needs_golden
def test_golden_pair_inputs():
    given, expected, meta = golden("cross_input")
    assert meta["pad_id"] == "0"
    inputs = pair_inputs(given["token_ids"], int(meta["first_segment_end"]))
    assert (inputs["token_type_ids"] == expected["segment_ids"]).all()
    assert (inputs["attention_mask"].bool() == expected["mask"]).all()


@needs_golden
def test_golden_emb_ce():
    given, expected, meta = golden("emb_ce")
    assert tuple(int(meta[f"{name}_id"]) for name in ("start", "end", "title")) == (START, END, TITLE)
    query, item = tag_embeddings(given["token_ids"], given["hidden"])
    torch.testing.assert_close(query, expected["query_emb"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(item, expected["item_emb"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close((query * item).sum(1), expected["score"], rtol=1e-5, atol=1e-6)


@needs_golden
def test_golden_match_loss():
    given, expected, _ = golden("distill_match")
    loss = match_loss(dot_scores(given["query_emb"], given["item_emb"]), given["ce_scores"])
    torch.testing.assert_close(loss, expected["loss"], rtol=1e-5, atol=1e-6)


@needs_golden
def test_golden_loss_over_negatives():
    given, expected, _ = golden("de_ce_negs")
    candidates = torch.cat([given["pos_emb"][:, None], given["neg_emb"]], 1)
    loss = positive_first(dot_scores(given["query_emb"], candidates))
    torch.testing.assert_close(loss, expected["loss"], rtol=1e-5, atol=1e-6)


def test_a_query_keeps_its_mention_and_what_is_nearest_to_it():
    special = {"cls": 5, "sep": 6, "start": START, "end": END}
    assert query_ids([10, 11, 12], [20], [30, 31], 7, **special) == [5, 12, 1, 20, 2, 30, 6]
    assert query_ids([10, 11], [20], [], 7, **special) == [5, 10, 11, 1, 20, 2, 6]  # the right side's share goes left
    assert query_ids([10], [20, 21, 22], [30], 7, **special) == [5, 1, 20, 21, 22, 2, 6]  # no room: none, not all of it
    assert query_ids([], list(range(20, 40)), [], 7, **special) == [5, 1, 20, 21, 22, 2, 6]
    assert item_ids([20, 21, 22, 23, 24], [30], 6, 5, 6) == [5, 20, 21, 22, TITLE, 6]  # the tag stays


@pytest.mark.parametrize("kind", ["emb", "cls"])
def test_a_cross_encoder_reads_both_and_ignores_padding(kind):
    net = CrossEncoder(kind, TINY).eval()
    queries, items = tokens()
    scores = net(queries, items)
    assert scores.shape == (3, 4)
    torch.testing.assert_close(net(queries[1:2], items[1:2, 2:3])[0, 0], scores[1, 2])  # a pair does not see the others
    other = queries.clone()
    other[0, 1] = 39
    assert (net(other, items)[0] != scores[0]).all() and (net(other, items)[1:] == scores[1:]).all()
    longer = F.pad(items, (0, 3))
    torch.testing.assert_close(net(queries, longer), scores)


def test_the_item_begins_at_the_same_position_for_every_query():
    queries, items = tokens()
    pairs = pair_tokens(queries, items[:, 0])
    assert pairs.shape == (3, 8 + 7 - 1) and (pairs[:, 8] == items[:, 0, 1]).all()
    assert (queries[0] == 0).any()  # so the padding lies between the two


def test_the_emb_score_is_a_dot_product_whose_gradient_reaches_both_segments():
    net = CrossEncoder("emb", TINY).eval()
    queries, items = tokens()
    pairs = pair_tokens(queries[:1], items[:1, 0])
    seen = []
    hook = net.bert.embeddings.register_forward_hook(lambda *args: seen.append(args[2]))
    score = net(queries[:1], items[:1, :1])
    hook.remove()
    hidden = net.bert(**pair_inputs(pairs, queries.shape[1])).last_hidden_state
    query, item = tag_embeddings(pairs, hidden)
    torch.testing.assert_close(score[0, 0], (query * item).sum())
    seen[0].retain_grad()
    score.sum().backward()
    size = seen[0].grad[0].norm(dim=-1)
    read = pairs[0] != 0
    assert (size[read] > 0).all() and (size[~read] == 0).all()


@pytest.mark.parametrize("kind", ["emb", "cls", "dual"])
def test_scores_are_float32_whatever_the_precision(kind):
    """A score rounded to bfloat16 ties with its neighbours: 16 candidates would have a handful of values."""
    torch.manual_seed(0)
    net = build(kind, TINY).eval()
    queries, items = tokens()
    items = torch.cat([items + shift * (items > 7) for shift in (0, 1, 2, 3)], 1).clamp(max=39)  # 16 that differ
    with torch.autocast("cpu", torch.bfloat16):
        scores = net(queries, items)
        loss = positive_first(scores)
    assert scores.dtype == torch.float32 and loss.dtype == torch.float32
    if kind == "dual":
        with torch.autocast("cpu", torch.bfloat16):
            query, item = net.embed("query", queries), net.embed("item", items.flatten(0, 1)).view(3, 16, -1)
        torch.testing.assert_close(scores, (query.float()[:, None] * item.float()).sum(-1))
        with torch.autocast("cpu", torch.bfloat16):
            everywhere = all_scores(net.embed_all("query", queries), net.embed_all("item", items[0]))
        assert everywhere.dtype == torch.float32
        torch.testing.assert_close(everywhere[0], scores[0])
    assert all(len(row.unique()) == len(pairs.unique(dim=0)) for row, pairs in zip(scores, items, strict=True))


@pytest.mark.parametrize("kind", ["emb", "cls", "dual"])
def test_a_net_in_half_precision_scores_in_float32_too(kind):
    scores = build(kind, TINY).bfloat16().eval()(*tokens())
    assert scores.dtype == torch.float32


def test_what_is_trained_without_the_embeddings():
    for kind, head in (("emb", set()), ("cls", {"head.weight", "head.bias"})):
        net = CrossEncoder(kind, TINY)
        Ranker(net, 1e-3, 0.01, 0.1, train_embeddings=False)
        trained = {name for name, p in net.named_parameters() if p.requires_grad}
        assert {name for name in trained if not name.startswith("bert.encoder.")} == head
        positive_first(net(*tokens())).backward()
        assert all((p.grad is not None) == (name in trained) for name, p in net.named_parameters())
    net = CrossEncoder("emb", TINY).eval()  # as published weights are loaded
    Ranker(net, 1e-3, 0.01, 0.1, train_embeddings=True)
    assert all(module.training for module in net.modules())  # or there would be no dropout
    assert all(p.requires_grad for p in net.parameters())


def test_the_dual_encoder_s_towers_share_nothing():
    net = DualEncoder(TINY).eval()
    queries, items = tokens()
    scores = net(queries, items)
    expected = [
        [net.embed("query", queries[i : i + 1])[0] @ net.embed("item", items[i, j : j + 1])[0] for j in range(4)]
        for i in range(3)
    ]
    torch.testing.assert_close(scores, torch.tensor(expected))
    net.embed("query", queries).sum().backward()
    assert all(p.grad is None for p in net.item.parameters())
    torch.testing.assert_close(net.embed_all("item", items[0], batch_size=3), net.embed("item", items[0]).detach())


def test_losses_in_closed_form():
    scores = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    expected = (np.log(1 + np.exp(-1)) + np.log(2)) / 2
    assert positive_first(scores).item() == pytest.approx(expected)
    targets = torch.tensor([[2.0, 2.0]])
    assert match_loss(torch.zeros(1, 2), targets).item() == pytest.approx(np.log(2))  # the entropy is its minimum
    assert match_loss(torch.tensor([[3.0, 0.0]]), targets).item() > np.log(2)
    assert match_loss(scores + 7, targets.expand(2, 2)).item() == pytest.approx(
        match_loss(scores, targets.expand(2, 2)).item()
    )


def domain(entities: int = 12, mentions: int = 5) -> Domain:
    return LinkingWorld(entities, mentions).domain("here")


def corpus(*domains: Domain) -> Corpus:
    return Corpus(domains, LinkingWorld().tokenizer(), 16, 16)


def test_a_corpus_numbers_domains_through():
    world = LinkingWorld(12, 5)
    both = corpus(world.domain("a"), world.domain("b"))
    assert both.queries.shape == (10, 16) and both.items.shape == (24, 16)
    assert both.ranges[:5].tolist() == [[0, 12]] * 5 and both.ranges[5:].tolist() == [[12, 12]] * 5
    second = corpus(world.domain("b"))
    assert (both.items[12:] == second.items).all() and (both.gold[5:] - 12 == second.gold).all()
    assert all((row == tag).sum() == 1 for row in both.queries for tag in (START, END))
    assert all((row == TITLE).sum() == 1 for row in both.items)


def test_an_item_in_the_query_s_place_has_a_query_s_tags():
    entities = [Entity("kadu", "red city"), Entity("x", "y")]
    words = LinkingWorld()
    title, red, city = words.names[0], "red", "city"
    here = Domain("d", [Entity(title, f"{red} {city}"), *entities], [Mention("", title, f"{red} {city}", 0)])
    found = corpus(here)
    assert (found.as_queries(here, np.array([0])) == found.queries[:1]).all()


def test_negatives_are_of_the_domain_and_never_the_right_item():
    world = LinkingWorld(12, 30)
    both = corpus(world.domain("a"), world.domain("b"))
    torch.manual_seed(0)
    drawn = random_negatives(both, 200)
    mined = mine(DualEncoder(BertSizes(vocab_size=171, hidden_size=16, layers=1, heads=2)), both, 11)
    for negatives in (drawn, mined):
        assert (negatives != both.gold[:, None]).all()
        assert (negatives >= both.ranges[:, :1]).all() and (negatives < both.ranges.sum(1)[:, None]).all()
    assert all(len(set(row)) == 11 for row in mined.tolist())  # all that there are, each once
    assert all(len(set(row)) == 11 for row in drawn.tolist())
    with pytest.raises(UserError, match="12 hard negatives do not exist in a domain of 12"):
        mine(DualEncoder(BertSizes(vocab_size=171, hidden_size=16, layers=1, heads=2)), both, 12)


def test_hard_negatives_are_the_best_of_the_others():
    torch.manual_seed(0)
    net = DualEncoder(TINY).train()
    queries, items = tokens()
    items = items.flatten(0, 1)
    positives = torch.tensor([[0, 1], [2, 3], [10, 11]])
    found = hard_negatives(net, queries, items, positives)
    assert net.training
    scores = net.embed_all("query", queries) @ net.embed_all("item", items).T
    for row, taken, negatives in zip(scores, positives.tolist(), found.tolist(), strict=True):
        others = [i for i in row.argsort(descending=True).tolist() if i not in taken]
        assert negatives == others[:2]


def test_the_split_is_a_partition_that_a_seed_decides():
    anchors, tests = split(30, 10, 0)
    assert len(anchors) == 10 and sorted([*anchors, *tests]) == list(range(30))
    assert (split(30, 10, 0)[0] == anchors).all() and (split(30, 10, 1)[0] != anchors).any()
    with pytest.raises(UserError, match="30 anchor queries of 30 queries leave none"):
        split(30, 30, 0)


def test_a_source_without_words_of_its_own_needs_a_tokenizer():
    class Other(LinkingWorld.__base__):
        def domain(self, name):
            return domain()

    with pytest.raises(UserError, match="data.tokenizer is missing"):
        _ = LinkingData(Other(), ["a"], ["b"], "c").search


def test_the_world_is_the_same_every_time_and_domains_differ():
    first, again = LinkingWorld(20, 8).domain("a"), LinkingWorld(20, 8).domain("a")
    other = LinkingWorld(20, 8).domain("b")
    assert first == again and first.entities != other.entities
    titles = [entity.title for entity in LinkingWorld(1000, 8).domain("a").entities]
    assert len(set(titles)) < len(titles)  # names collide: the context decides
    nicknamed = [
        m for m in LinkingWorld(50, 400).domain("a").mentions if m.mention.split()[0] in LinkingWorld().nicknames
    ]
    assert 60 < len(nicknamed) < 140  # a quarter share no word with the title


def test_a_corpus_cuts_whole_documents_to_what_is_read():
    """TF-IDF reads a mention's whole document, an encoder what is nearest to the mention."""
    world = LinkingWorld()
    name, filler = world.names[0], " ".join(["red"] * 400)
    entity = Entity(name, "city")
    near = corpus(Domain("d", [entity], [Mention(" ".join(["red"] * 16), name, " ".join(["red"] * 16), 0)]))
    far = corpus(Domain("d", [entity], [Mention(filler, name, filler, 0)]))
    assert (near.queries == far.queries).all()


class TestPretraining:
    """The world's BERT reads pairs of texts with hidden words."""

    def data(self, copies: bool = False, hidden: float = 0.4, whole: float = 0.3) -> TextPairs:
        world = LinkingWorld(12, 40)
        named = {"train": ["a", "b"], "val": [], "search": "s", "query_length": 14, "item_length": 14}
        return TextPairs(copies, hidden, whole, source=world, **named)

    def test_half_of_the_pairs_belong_together_and_none_leaves_its_domain(self):
        data = self.data(hidden=0.0)
        rng = np.random.default_rng(0)
        samples = [data.draw(i, rng) for i in list(range(80)) * 5]
        together = [sample["next_sentence_label"] == 0 for sample in samples]
        assert 0.4 < np.mean(together) < 0.6
        items = {tuple(row): i for i, row in reversed(list(enumerate(data.train.items[:, 1:].tolist())))}
        for number, sample in enumerate(samples):
            index = number % 80
            item = items[tuple(sample["input_ids"][14:].tolist())]
            first, size = data.train.ranges[index].tolist()
            assert first <= item < first + size
            if together[number]:
                assert (data.train.items[data.train.gold[index]] == data.train.items[item]).all()

    def test_a_made_up_entity_has_the_words_of_a_mention(self):
        data, rng, orders = self.data(copies=True, hidden=0.0), np.random.default_rng(0), 0
        mentions = [sorted(query[query >= 8].tolist()) for query in data.train.queries.numpy()]
        for index in range(80):
            sample = data.draw(index, rng)
            query, entity = sample["input_ids"][:14], sample["input_ids"][14:]
            words = entity[entity >= 8].tolist()
            assert sorted(words) in mentions and list(entity).count(TITLE) == 1 and entity[2] == TITLE
            if sample["next_sentence_label"] == FOLLOWS:
                assert sorted(words) == mentions[index]
                orders += words != query[query >= 8].tolist()
        assert orders > 30

    def test_the_mention_s_words_alone_are_hidden_and_told_where_the_texts_belong_together(self):
        data, rng = self.data(hidden=0.5, whole=0.25), np.random.default_rng(0)
        changed: dict[int, list[bool]] = {0: [], 1: []}
        told = words = 0
        for number in range(1600):
            sample, query = data.draw(number % 80, rng), data.train.queries[number % 80].numpy()
            inputs, labels, replaced = (sample[key][:14] for key in ("input_ids", "labels", "replaced"))
            word, masked = query >= 8, sample["input_ids"][:14] == data.tokenizer.mask_token_id
            assert (sample["labels"][14:] == IGNORED).all() and (sample["replaced"][14:] == IGNORED).all()
            assert (inputs[~word] == query[~word]).all() and (labels[~word] == IGNORED).all()
            assert ((replaced == IGNORED) == (~word | masked)).all()
            changed[sample["next_sentence_label"]].append((inputs != query).any())
            asked = word & ~masked
            if sample["next_sentence_label"] == FOLLOWS:
                assert (np.where(labels != IGNORED, labels, inputs) == query).all()
                assert (replaced[asked] == (inputs != query)[asked]).all()
                told, words = told + (labels != IGNORED).sum(), words + word.sum()
            else:
                assert (labels == IGNORED).all() and (replaced[asked] == 1).all()
        assert told / words == pytest.approx(0.5 * 0.75, abs=0.03)
        # hidden words do not give the second task away
        assert np.mean(changed[0]) == pytest.approx(np.mean(changed[1]), abs=0.06)

    def test_words_are_hidden_in_the_shares_that_are_meant(self):
        rng, tokenizer = np.random.default_rng(0), LinkingWorld().tokenizer()
        tokens_ = np.tile(np.r_[0:8, 8:20], 4000)
        hidden_ = hide(tokens_, tokens_ >= 8, 0.3, True, tokenizer, rng)
        inputs, hidden = hidden_["input_ids"], hidden_["labels"] != IGNORED
        assert not hidden[tokens_ < 8].any() and (inputs[~hidden] == tokens_[~hidden]).all()
        assert hidden[tokens_ >= 8].mean() == pytest.approx(0.3, abs=0.01)
        assert (inputs[hidden] == tokenizer.mask_token_id).mean() == pytest.approx(MASKED, abs=0.01)
        other = (inputs != tokenizer.mask_token_id) & (inputs != tokens_)
        assert other[hidden].mean() == pytest.approx(REPLACED, abs=0.02) and (inputs[other] >= 8).all()

    def test_a_batch_has_the_segments_of_a_pair(self):
        data = self.data()
        batch = data._batch([data.draw(i, np.random.default_rng(i)) for i in range(4)])
        inputs = {"input_ids", "attention_mask", "token_type_ids"}
        assert set(batch) == {*inputs, "labels", "replaced", "next_sentence_label"}
        assert all(batch[key].shape == (4, 27) for key in (*inputs, "labels", "replaced"))
        assert not batch["token_type_ids"][:, :14].any() and batch["token_type_ids"][:, 14].all()

    def model(self, start: str | None = None) -> PairReading:
        return PairReading(start, kind="bert", tokenizer=LinkingWorld().tokenizer(), hidden=16, layers=1, heads=2)

    def test_a_step_has_the_three_losses_and_trains_everything(self):
        data, model, logged = self.data(), self.model(), {}
        model.log_dict = logged.update
        batch = data._batch([data.draw(i, np.random.default_rng(i)) for i in range(16)])
        loss = model.training_step(batch, 0)
        parts = [logged[f"train/{task}"] for task in ("cloze", "following", "replaced")]
        torch.testing.assert_close(loss, sum(parts))
        assert all(part > 0 for part in parts)
        loss.backward()
        assert all(p.grad is not None for p in model.parameters())

    def test_a_batch_without_anything_to_be_told_has_a_loss(self):
        assert mean_loss(torch.zeros(0, 5), torch.zeros(0, dtype=torch.long)) == 0
        logits, labels = torch.randn(3, 4), torch.tensor([1, 0, 3])
        torch.testing.assert_close(mean_loss(logits, labels), torch.nn.functional.cross_entropy(logits, labels))

    def test_it_goes_on_from_another(self, tmp_path):
        first = self.model()
        first.net.config.update({"hidden_dropout_prob": 0.1})
        first.net.save_pretrained(tmp_path)
        model = self.model(str(tmp_path))
        state = first.net.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in model.net.state_dict().items())
        assert model.net.training and model.net.config.hidden_dropout_prob == 0

    def test_what_it_leaves_is_what_encoders_start_from(self, tmp_path):
        torch.manual_seed(0)
        module = self.model()
        module.net.save_pretrained(tmp_path)
        net = build("emb", BertSizes(pretrained=str(tmp_path), dropout=0.0))
        assert all((a == b).all() for a, b in zip(net.bert.parameters(), module.net.bert.parameters(), strict=False))
        assert net.bert.config.hidden_dropout_prob == net.bert.config.attention_probs_dropout_prob == 0
        assert build("cls", BertSizes(pretrained=str(tmp_path), dropout=0.2)).bert.config.hidden_dropout_prob == 0.2
