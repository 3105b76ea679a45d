// eval, generate and logits as programs: the same at any number of ranks, and what they refuse.
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "launch/checkpoint/checkpoint.h"
#include "launch/data/indexed_dataset_writer.h"
#include "launch/data/tokenizer.h"
#include "launch/engine.h"
#include "launch/logits_run.h"
#include "tests/checkpoint/scratch_folder.h"
#include "tests/launch/float_file.h"
#include "tests/launch/program_case.h"

namespace witan {
namespace {

using test::expect_refused;
using test::output_of;

nlohmann::json json_of(const std::string& path) {
  return nlohmann::json::parse(read_text_file(path));
}

// A run folder with one checkpoint of a random model of Mixtral's architecture, and its data.
class InferenceCommandsTest : public ::testing::Test {
 protected:
  InferenceCommandsTest() {
    const auto tokenizer = make_tokenizer("byte");
    IndexedDatasetWriter writer(scratch_ / "text", tokenizer->vocab_size());
    std::vector<std::int32_t> tokens;
    for (int i = 0; i < 40; ++i) tokenizer->encode("all work and no play. ", tokens);
    tokens.push_back(tokenizer->end_of_document());
    writer.append(tokens);
    writer.end_document();
    writer.finish();

    configs::RunConfig run;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(R"(
      name: "tiny"
      model {
        vocab_size: 257 d_model: 16 layers: 2 max_seq_len: 48 init_std: 0.2
        attention { heads: 2 }
        moe { experts: 6 d_ff: 8 router { top_k { k: 2 } } balance { switch_aux {} } }
      }
      data { train { name: "play" } validation_share: 0.2 seq_len: 32 }
      train { global_batch: 4 }
      parallel { expert: 1 })",
                                                              &run));
    run.mutable_data()->mutable_train(0)->set_path(scratch_ / "text");
    const Mesh mesh = Mesh::self();
    Engine engine(run.model(), mesh, Runtime{}, Engine::Options{});
    engine.params().initialize(3);
    TrainState state;
    state.step = 10;
    save_checkpoint(checkpoint_folder(run_, 10), run, engine.params(), nullptr, state, mesh, 1);
  }

  // A file with input_ids of this shape.
  template <class T>
  std::string tokens_file(const char* name, StDType dtype, const std::vector<std::int64_t>& shape,
                          const std::vector<T>& ids, const char* tensor = "input_ids") {
    SafetensorsWriter writer(scratch_ / name, {{tensor, dtype, shape}});
    writer.write(ids.data(), ids.size() * sizeof(T));
    writer.finish();
    return scratch_ / name;
  }

  std::vector<std::int64_t> some_ids(std::size_t count) {
    std::vector<std::int64_t> ids(count);
    for (std::size_t i = 0; i < count; ++i) ids[i] = static_cast<std::int64_t>(i * 37 % 257);
    return ids;
  }

  ScratchFolder scratch_;
  std::string run_ = scratch_ / "run";
  std::string out_ = scratch_ / "out";
};

TEST_F(InferenceCommandsTest, EvalGivesTheSameOnAnyNumberOfRanks) {
  for (const int ranks : {1, 2, 3}) {
    output_of(ranks, {"eval", run_, "--batch", "2", "--json",
                      scratch_ / (std::to_string(ranks) + ".json")});
  }
  const nlohmann::json one = json_of(scratch_ / "1.json");
  EXPECT_EQ(one["seq_len"], 32);
  EXPECT_EQ(one["checkpoint"], checkpoint_folder(run_, 10));
  ASSERT_EQ(one["validation"].size(), 1U);
  const nlohmann::json& set = one["validation"][0];
  EXPECT_EQ(set["dataset"], "play");
  EXPECT_EQ(set["tokens"], 175);  // 20% of 881 tokens, but the first
  EXPECT_EQ(set["bytes"], 174);   // the last is end-of-document
  EXPECT_GT(set["loss"], 1.0);
  EXPECT_NEAR(set["perplexity"].get<double>(), std::exp(set["loss"].get<double>()), 1e-9);
  EXPECT_NEAR(set["nats_per_byte"].get<double>(), set["loss"].get<double>() * 175 / 174, 1e-9);
  ASSERT_EQ(set["load"].size(), 2U);
  std::int64_t choices = 0;
  for (const auto& n : set["load"][0]["counts"]) choices += n.get<std::int64_t>();
  EXPECT_EQ(choices, 2 * 6 * 32);
  for (const char* other : {"2.json", "3.json"}) {
    const nlohmann::json found = json_of(scratch_ / other)["validation"][0];
    EXPECT_NEAR(found["loss"].get<double>(), set["loss"].get<double>(), 1e-5);
    EXPECT_EQ(found["tokens"], set["tokens"]);
    EXPECT_EQ(found["load"][0]["counts"], set["load"][0]["counts"]);
  }
}

TEST_F(InferenceCommandsTest, EvalTakesOtherDataAndWindows) {
  output_of(2, {"eval", checkpoint_folder(run_, 10), "--data", "a=" + (scratch_ / "text"), "--data",
                "b=" + (scratch_ / "text"), "--seq-len", "20", "--windows", "3", "--json", out_});
  const nlohmann::json found = json_of(out_);
  ASSERT_EQ(found["validation"].size(), 2U);
  EXPECT_EQ(found["validation"][1]["dataset"], "b");
  EXPECT_EQ(found["validation"][0]["tokens"], 60);
  EXPECT_EQ(found["validation"][0]["loss"], found["validation"][1]["loss"]);
}

TEST_F(InferenceCommandsTest, EvalRefuses) {
  expect_refused(2, {"eval", scratch_ / "absent"}, "there is no such folder");
  expect_refused(1, {"eval", scratch_.path()}, "neither a checkpoint");
  expect_refused(1, {"eval", run_, "--data", "text"}, "expected NAME=PREFIX");
  expect_refused(1, {"eval", run_, "--data", "a=" + (scratch_ / "absent")}, "absent");
  expect_refused(1, {"eval", run_, "--seq-len", "64"}, "model.max_seq_len = 48");
  expect_refused(1, {"eval", run_, "--set", "model.no=1"}, "model.no");
  expect_refused(1, {"eval", run_, "--set", "parallel.expert=4"}, "does not divide");
  expect_refused(1, {"eval", run_, "--set", "data.validation_share=0"},
                 "holds out no validation data");
}

TEST_F(InferenceCommandsTest, GenerateGivesTheSameOnAnyNumberOfRanks) {
  std::vector<nlohmann::json> found;
  for (const int ranks : {1, 2, 3}) {
    output_of(ranks, {"generate", run_, "--prompt", "no play", "--samples", "4", "--max-tokens",
                      "20", "--temperature", "0.9", "--top-k", "50", "--top-p", "0.99", "--seed",
                      "11", "--json", out_});
    found.push_back(json_of(out_));
  }
  ASSERT_EQ(found[0]["samples"].size(), 4U);
  EXPECT_NE(found[0]["samples"][0]["ids"], found[0]["samples"][1]["ids"]);
  EXPECT_EQ(found[0]["prompt"], "no play");
  EXPECT_EQ(found[0]["top_k"], 50);
  EXPECT_EQ(found[1]["samples"], found[0]["samples"]);
  EXPECT_EQ(found[2]["samples"], found[0]["samples"]);
  EXPECT_EQ(found[2]["ranks"], 3);
}

TEST_F(InferenceCommandsTest, GeneratePrintsThePromptAndItsContinuation) {
  const std::string text =
      output_of(1, {"generate", run_, "--prompt", "no play", "--greedy", "--tokens", "60"});
  EXPECT_NE(text.find("no play"), std::string::npos) << text;  // 67 tokens: more than the context
  output_of(1, {"generate", run_, "--greedy", "--tokens", "3", "--json", out_});
  EXPECT_EQ(json_of(out_)["prompt_ids"], nlohmann::json::parse("[256]"));
  output_of(1, {"generate", run_, "--prompt-ids", "110,111", "--greedy", "--tokens", "3", "--json",
                out_});
  EXPECT_EQ(json_of(out_)["prompt"], "no");
}

TEST_F(InferenceCommandsTest, GenerateRefuses) {
  expect_refused(2, {"generate", run_, "--prompt", std::string(49, 'a')},
                 "at most model.max_seq_len = 48");
  expect_refused(1, {"generate", run_, "--prompt-ids", "7,257"}, "the prompt holds token 257");
  expect_refused(1, {"generate", run_, "--prompt-file", scratch_ / "absent"}, "absent");
  expect_refused(1, {"generate", run_, "--greedy", "--top-k", "3"}, "--greedy");
  expect_refused(1, {"generate", run_, "--top-p", "0"}, "--top-p");
  expect_refused(1, {"generate", run_, "--prompt", "a", "--set", "data.tokenizer=none"},
                 "--prompt-ids");
  expect_refused(1, {"generate", run_, "--set", "data.tokenizer=none"}, "there is no prompt");
  expect_refused(
      1, {"generate", run_, "--prompt-ids", "256,65", "--set", "data.reset_at_document=true"},
      "reset_at_document");
}

// Five sequences on one, two and three ranks, and one sequence on two: some ranks have fewer, or
// none.
TEST_F(InferenceCommandsTest, LogitsGivesTheSameOnAnyNumberOfRanks) {
  const std::string tokens = tokens_file("tokens", StDType::kI64, {5, 7}, some_ids(35));
  for (const int ranks : {1, 2, 3}) {
    const std::string number = std::to_string(ranks);
    output_of(ranks,
              {"logits", run_, "--tokens", tokens, "--out", scratch_ / ("o" + number),
               "--gradients", scratch_ / ("g" + number), "--json", scratch_ / ("j" + number)});
  }
  const SafetensorsReader one(scratch_ / "o1");
  const SafetensorsReader gradients(scratch_ / "g1");
  EXPECT_EQ(one.find("logits")->shape, (std::vector<std::int64_t>{5, 7, 257}));
  EXPECT_EQ(one.find("loss")->shape, (std::vector<std::int64_t>{1}));
  EXPECT_NEAR(json_of(scratch_ / "j1")["loss"].get<double>(), test::floats_of(one, "loss").at(0),
              1e-6);
  const std::vector<float> logits = test::floats_of(one, "logits");
  for (const char* ranks : {"2", "3"}) {
    const SafetensorsReader other(scratch_ / (std::string("o") + ranks));
    EXPECT_LT(test::distance(test::floats_of(other, "logits"), logits),
              1e-5 * test::norm_of(logits));
    const SafetensorsReader other_gradients(scratch_ / (std::string("g") + ranks));
    EXPECT_EQ(other_gradients.tensors().size(), gradients.tensors().size());
    for (const auto& [name, tensor] : gradients.tensors()) {
      const std::vector<float> expected = test::floats_of(gradients, name);
      EXPECT_LE(test::distance(test::floats_of(other_gradients, name), expected),
                1e-5 * test::norm_of(expected))
          << name << " at " << ranks << " ranks";
    }
  }

  const std::string single = tokens_file("single", StDType::kI32, {1, 7},
                                         std::vector<std::int32_t>{0, 37, 74, 111, 148, 185, 222});
  output_of(2, {"logits", run_, "--tokens", single, "--out", out_});
  const std::vector<float> first(logits.begin(), logits.begin() + 7 * 257);
  EXPECT_LT(test::distance(test::floats_of(SafetensorsReader(out_), "logits"), first),
            1e-5 * test::norm_of(first));
}

TEST_F(InferenceCommandsTest, LogitsOfATextAreThoseOfItsTokens) {
  const std::string text = "no play";
  const std::string tokens = tokens_file("tokens", StDType::kI32, {1, 7},
                                         std::vector<std::int32_t>(text.begin(), text.end()));
  output_of(1, {"logits", run_, "--tokens", tokens, "--out", out_});
  output_of(2, {"logits", run_, "--text", text, "--out", scratch_ / "of_text"});
  const std::vector<float> expected = test::floats_of(SafetensorsReader(out_), "logits");
  EXPECT_LT(
      test::distance(test::floats_of(SafetensorsReader(scratch_ / "of_text"), "logits"), expected),
      1e-5 * test::norm_of(expected));
  expect_refused(2, {"logits", run_, "--text", "x", "--out", scratch_ / "o"},
                 "at least 2 are needed");
  expect_refused(1, {"logits", run_, "--out", scratch_ / "o"}, "either --tokens FILE or --text");
  expect_refused(
      1, {"logits", run_, "--text", text, "--out", scratch_ / "o", "--set", "data.tokenizer=none"},
      "the tokenizer of this model is not known");
}

// Experts without tokens are there, with zeros.
TEST_F(InferenceCommandsTest, GradientsOfUnusedExpertsAreZero) {
  const std::string tokens = tokens_file("tokens", StDType::kI64, {1, 2}, some_ids(2));
  output_of(2, {"logits", run_, "--tokens", tokens, "--out", out_, "--gradients", scratch_ / "g"});
  const SafetensorsReader gradients(scratch_ / "g");
  int zero = 0, used = 0;
  for (int expert = 0; expert < 6; ++expert) {
    const std::string name =
        "model.layers.0.block_sparse_moe.experts." + std::to_string(expert) + ".w3.weight";
    (test::norm_of(test::floats_of(gradients, name)) == 0.0 ? zero : used) += 1;
  }
  EXPECT_GE(zero, 2);
  EXPECT_GE(used, 2);
}

TEST_F(InferenceCommandsTest, LogitsRefuses) {
  const auto refuse = [&](const std::string& tokens, const std::string& part, int ranks = 1) {
    expect_refused(ranks, {"logits", run_, "--tokens", tokens, "--out", out_}, part);
    EXPECT_FALSE(std::filesystem::exists(out_));
  };
  const std::string good = tokens_file("good", StDType::kI64, {1, 2}, some_ids(2));
  expect_refused(1, {"logits", scratch_ / "absent", "--tokens", good, "--out", out_},
                 "there is no such folder");
  expect_refused(1, {"logits", run_, "--tokens", good, "--out", scratch_ / "absent/o"}, "absent/o");
  expect_refused(1, {"logits", run_, "--tokens", good}, "--out");
  refuse(scratch_ / "absent", "absent");
  refuse(tokens_file("large", StDType::kI64, {1, 3}, std::vector<std::int64_t>{1, 2, 257}),
         "input_ids[0, 2] is 257; the model has tokens 0 to 256", 2);
  refuse(tokens_file("negative", StDType::kI32, {1, 2}, std::vector<std::int32_t>{-1, 2}),
         "input_ids[0, 0] is -1");
  refuse(tokens_file("floats", StDType::kF32, {1, 2}, std::vector<float>{1.0F, 2.0F}),
         "expected dtype I64 or I32, found F32");
  refuse(tokens_file("flat", StDType::kI64, {4}, some_ids(4)), "found [4]");
  refuse(tokens_file("empty", StDType::kI64, {0, 4}, some_ids(0)), "found [0, 4]");
  refuse(tokens_file("short", StDType::kI64, {4, 1}, some_ids(4)), "found [4, 1]");
  refuse(tokens_file("long", StDType::kI64, {1, 49}, some_ids(49)),
         "at most model.max_seq_len = 48");
  refuse(tokens_file("other", StDType::kI64, {1, 2}, some_ids(2), "ids"),
         "holds no tensor \"input_ids\"");
}

// The balancing losses of the run are no part of the loss and its gradients.
TEST(LogitsRunTest, KeepsOnlyTheExpertBias) {
  configs::ModelConfig model;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "moe { balance { switch_aux {} } balance { expert_bias {} } balance { z_loss {} } }",
      &model));
  remove_balancing_losses(model);
  ASSERT_EQ(model.moe().balance_size(), 1);
  EXPECT_TRUE(model.moe().balance(0).has_expert_bias());
}

}  // namespace
}  // namespace witan
