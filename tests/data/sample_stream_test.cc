#include "launch/data/sample_stream.h"

#include <algorithm>
#include <map>
#include <set>

#include "tests/data/data_test_support.h"

namespace witan {
namespace {

using test::user_error;

constexpr std::int64_t kVocab = 60000;

class SampleStreamTest : public test::FolderTest {
 protected:
  // Token i of the dataset is first + i, so that a token tells where it comes from.
  void write_counting(const std::string& name, std::int32_t first, std::int32_t tokens) {
    std::vector<std::int32_t> document;
    for (std::int32_t i = 0; i < tokens; ++i) document.push_back(first + i);
    test::write_dataset(path(name), {document}, kVocab);
  }

  void add(google::protobuf::RepeatedPtrField<configs::Dataset>* list, const std::string& name,
           double weight = 1) {
    auto* dataset = list->Add();
    dataset->set_name(name);
    dataset->set_path(path(name));
    dataset->set_weight(weight);
  }

  configs::DataConfig one(std::int32_t tokens, std::int64_t seq_len, double validation_share) {
    write_counting("a", 0, tokens);
    configs::DataConfig data;
    add(data.mutable_train(), "a");
    data.set_seq_len(seq_len);
    data.set_validation_share(validation_share);
    return data;
  }
};

std::vector<std::int32_t> train(const SampleStream& stream, std::int64_t n) {
  std::vector<std::int32_t> window(static_cast<std::size_t>(stream.seq_len()) + 1);
  stream.train_sample(n, window);
  return window;
}

TEST_F(SampleStreamTest, EachWindowOncePerEpochInAnotherOrder) {
  const auto data = one(1000, 7, 0);
  const SampleStream stream(data, kVocab, 3);
  const std::int64_t windows = (1000 - 1) / 7;
  ASSERT_EQ(stream.train_windows(), windows);
  EXPECT_EQ(stream.train_tokens(), 1000);
  std::vector<std::vector<std::int32_t>> orders;
  for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
    std::vector<std::int32_t> begins;
    for (std::int64_t n = 0; n < windows; ++n) {
      const auto window = train(stream, epoch * windows + n);
      for (std::size_t i = 1; i < window.size(); ++i) ASSERT_EQ(window[i], window[0] + int(i));
      ASSERT_EQ(window[0] % 7, 0);
      begins.push_back(window[0]);
    }
    orders.push_back(begins);
    EXPECT_FALSE(std::is_sorted(begins.begin(), begins.end()));
    const std::set<std::int32_t> distinct(begins.begin(), begins.end());
    EXPECT_EQ(static_cast<std::int64_t>(distinct.size()), windows);
  }
  EXPECT_NE(orders[0], orders[1]);
  EXPECT_NE(orders[1], orders[2]);
}

TEST_F(SampleStreamTest, TheNthSampleIsAFunctionOfSeedAndN) {
  auto data = one(1000, 7, 0.1);
  write_counting("b", 2000, 500);
  add(data.mutable_train(), "b", 0.4);
  const SampleStream first(data, kVocab, 3), second(data, kVocab, 3), other(data, kVocab, 4);
  std::vector<std::vector<std::int32_t>> forward(300);
  for (std::int64_t n = 0; n < 300; ++n) forward[static_cast<std::size_t>(n)] = train(first, n);
  int differ = 0;
  for (std::int64_t n = 299; n >= 0; --n) {
    EXPECT_EQ(train(second, n), forward[static_cast<std::size_t>(n)]);
    differ += train(other, n) != forward[static_cast<std::size_t>(n)];
  }
  EXPECT_GT(differ, 250);
}

TEST_F(SampleStreamTest, DatasetsAreBlendedByWeightAndTagged) {
  auto data = one(1000, 7, 0.1);
  write_counting("b", 2000, 500);
  add(data.mutable_train(), "b", 3);
  const SampleStream stream(data, kVocab, 3);
  EXPECT_EQ(stream.tags(), (std::vector<std::string>{"a", "b"}));
  std::map<int, int> drawn;
  std::vector<std::int32_t> window(8);
  for (std::int64_t n = 0; n < 400; ++n) {
    const int tag = stream.train_sample(n, window);
    EXPECT_EQ(tag, window[0] >= 2000 ? 1 : 0);
    ++drawn[tag];
  }
  EXPECT_EQ(drawn[0], 100);
  EXPECT_EQ(drawn[1], 300);
}

// Over sizes around every edge: training never sees a token of the validation split, neither as
// input nor as target, and validation predicts each of its tokens but the first exactly once.
TEST_F(SampleStreamTest, SplitHasNoLeakAndNoGap) {
  for (const std::int32_t tokens : {40, 41, 47, 48, 49, 50, 100})
    for (const std::int64_t seq_len : {1, 3, 8}) {
      const auto data = one(tokens, seq_len, 0.25);
      const SampleStream stream(data, kVocab, 1);
      std::int32_t highest = 0;
      for (std::int64_t n = 0; n < stream.train_windows(); ++n)
        highest = std::max(highest, train(stream, n).back());
      const auto split = static_cast<std::int32_t>(stream.train_tokens());
      EXPECT_LT(highest, split);
      EXPECT_GE(highest, split - static_cast<std::int32_t>(seq_len));

      ASSERT_EQ(stream.validation_sets(), 1);
      EXPECT_EQ(stream.validation_tokens(0), tokens - split - 1);
      std::vector<std::int32_t> predicted, expected;
      for (std::int64_t n = 0; n < stream.validation_windows(0); ++n) {
        std::vector<std::int32_t> window(static_cast<std::size_t>(seq_len) + 1, 77777);
        EXPECT_EQ(stream.validation_sample(0, n, window), 0);
        for (std::size_t i = 0; i + 1 < window.size(); ++i) {
          if (window[i + 1] < 0) continue;
          EXPECT_EQ(window[i] + 1, window[i + 1]);
          predicted.push_back(window[i + 1]);
        }
        EXPECT_GE(window[1], 0) << "a window without a target";
      }
      for (std::int32_t id = split + 1; id < tokens; ++id) expected.push_back(id);
      EXPECT_EQ(predicted, expected);
    }
}

TEST_F(SampleStreamTest, GivenValidationDatasetsReplaceTheShare) {
  auto data = one(1000, 7, 0.5);
  write_counting("b", 2000, 500);
  add(data.mutable_validation(), "b");
  add(data.mutable_validation(), "a");
  const SampleStream stream(data, kVocab, 3);
  EXPECT_EQ(stream.train_tokens(), 1000);
  EXPECT_EQ(stream.tags(), (std::vector<std::string>{"a", "b"}));
  ASSERT_EQ(stream.validation_sets(), 2);
  EXPECT_EQ(stream.validation_name(0), "b");
  EXPECT_EQ(stream.validation_tokens(0), 499);
  std::vector<std::int32_t> window(8);
  EXPECT_EQ(stream.validation_sample(0, 0, window), 1);
  EXPECT_EQ(window[0], 2000);
  EXPECT_EQ(stream.validation_sample(1, 0, window), 0);  // the tag of the training set "a"
}

// For evaluation alone.
TEST_F(SampleStreamTest, ValidationDatasetsNeedNoTraining) {
  write_counting("v", 5, 3);
  configs::DataConfig data;
  add(data.mutable_validation(), "v");
  data.set_seq_len(8);
  const SampleStream stream(data, kVocab, 1);
  EXPECT_EQ(stream.train_windows(), 0);
  ASSERT_EQ(stream.validation_sets(), 1);
  std::vector<std::int32_t> window(9);
  EXPECT_EQ(stream.validation_sample(0, 0, window), 0);
  EXPECT_EQ(window, (std::vector<std::int32_t>{5, 6, 7, -1, -1, -1, -1, -1, -1}));
  EXPECT_THROW(train(stream, 0), Error);
}

TEST_F(SampleStreamTest, NoValidationIfTheShareIsZero) {
  EXPECT_EQ(SampleStream(one(100, 7, 0), kVocab, 3).validation_sets(), 0);
}

TEST_F(SampleStreamTest, MistakesAreNamed) {
  const auto message = [](const configs::DataConfig& data) {
    return user_error([&] { SampleStream stream(data, kVocab, 1); });
  };
  EXPECT_CONTAINS(message({}), "data.train");
  EXPECT_CONTAINS(message(one(7, 7, 0)), "has 7 tokens to train on, expected at least 8");
  EXPECT_EQ(SampleStream(one(8, 7, 0), kVocab, 1).train_windows(), 1);
  EXPECT_CONTAINS(message(one(100, 7, 0.01)), "data.validation_share");

  auto data = one(100, 7, 0);
  add(data.mutable_train(), "a");
  EXPECT_CONTAINS(message(data), "data.train[1].name: \"a\"");
  data.mutable_train(1)->set_name("b");
  data.mutable_train(1)->set_path(path("absent"));
  EXPECT_CONTAINS(message(data), "absent.idx");
  data.mutable_train(1)->clear_path();
  EXPECT_CONTAINS(message(data), "data.train[1].path");

  IndexedDatasetWriter(path("empty"), kVocab).finish();
  data.mutable_train(1)->set_path(path("empty"));
  EXPECT_CONTAINS(message(data), "holds no tokens");
}

TEST_F(SampleStreamTest, IdsOutsideTheVocabularyAreNamed) {
  const auto data = one(100, 7, 0);
  const SampleStream stream(data, 50, 1);
  const std::string message = user_error([&] {
    for (std::int64_t n = 0; n < stream.train_windows(); ++n) train(stream, n);
  });
  EXPECT_CONTAINS(message, path("a.bin"));
  EXPECT_CONTAINS(message, "expected 0 to 49");
}

// Datasets of one tag count together; a model that knows tags orders them and takes no other.
TEST_F(SampleStreamTest, TagsAreThoseOfTheModelIfItHasSome) {
  write_counting("a", 0, 100);
  write_counting("b", 1000, 100);
  write_counting("c", 2000, 100);
  configs::DataConfig data;
  for (const char* name : {"a", "b", "c"}) add(data.mutable_train(), name);
  data.set_seq_len(7);
  data.mutable_train(1)->set_tag("more");
  data.mutable_train(2)->set_tag("a");
  const auto tags_by_dataset = [](const SampleStream& stream) {
    std::map<int, std::set<int>> found;
    std::vector<std::int32_t> window(8);
    for (std::int64_t n = 0; n < 30; ++n) {
      const int tag = stream.train_sample(n, window);
      found[window[0] / 1000].insert(tag);
    }
    return found;
  };
  using Found = std::map<int, std::set<int>>;
  const SampleStream free(data, kVocab, 1);
  EXPECT_EQ(free.tags(), (std::vector<std::string>{"a", "more"}));
  EXPECT_EQ(tags_by_dataset(free), (Found{{0, {0}}, {1, {1}}, {2, {0}}}));
  const std::vector<std::string> known = {"none", "more", "a"};
  const SampleStream bound(data, kVocab, 1, known);
  EXPECT_EQ(bound.tags(), known);
  EXPECT_EQ(tags_by_dataset(bound), (Found{{0, {2}}, {1, {1}}, {2, {2}}}));
  data.mutable_train(1)->clear_tag();
  EXPECT_EQ(user_error([&] { SampleStream stream(data, kVocab, 1, known); }),
            "data.train[1].tag (dataset \"b\"): absent, so it is the name \"b\"; "
            "model.moe.allowed_experts has the tags none, more, a");
}

}  // namespace
}  // namespace witan
