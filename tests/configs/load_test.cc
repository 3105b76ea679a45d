// One test for each kind of mistake in a config file: its place, its field, and what it says.
#include "configs/load.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "tests/configs/config_text.h"

namespace witan::configs {
namespace {

std::vector<std::string> errors_of(const std::string& text, const std::vector<Check>& checks = {}) {
  std::vector<std::string> lines;
  for (const ConfigError& error : load(text, "a.textproto", {}, checks).errors) {
    lines.push_back(error.to_string());
  }
  return lines;
}

using Lines = std::vector<std::string>;

TEST(Load, GoodConfigHasNoErrors) {
  const LoadedConfig config = load(kGoodConfig, "a.textproto", {});
  EXPECT_TRUE(config.errors.empty()) << config.errors.front().to_string();
  EXPECT_EQ(config.run.model().moe().router().top_k().k(), 2);
  EXPECT_EQ(config.run.model().moe().balance_size(), 2);
  EXPECT_EQ(config.run.model().moe().balance(0).switch_aux().coefficient(), 0.02);
  EXPECT_TRUE(config.run.model().moe().balance(1).has_z_loss());
}

TEST(Load, KnowsWhereEachScalarWasWritten) {
  const LoadedConfig config = load(kGoodConfig, "a.textproto", {});
  const Origin heads = config.origins.at("model.attention.heads");
  EXPECT_EQ(heads.kind, Origin::Kind::kFile);
  EXPECT_EQ(heads.line, 6);
  EXPECT_EQ(heads.column, 15);
  EXPECT_EQ(config.origins.at("model.moe.balance[0].switch_aux.coefficient").line, 11);
  EXPECT_EQ(config.origins.count("model.tied_head"), 0U);
}

// The parser of this project against Protobuf's own, on everything that the format allows.
TEST(Load, AgreesWithProtobufsParser) {
  const std::string text = R"(# comment
name: "a" 'b' "\x63\n"; device: CPU
model: < vocab_size: 0x101, d_model: 32 layers: 1
  attention { heads: 4; rope_theta: 1e4f } moe { experts: 2 d_ff: 8
    router { top_k { k: 1 } init_std: .5 } pattern { list: [0, 1] list: 2 list: [] }
    balance: [{ z_loss { coefficient: 1 } }, < expert_bias {} >]
  }
>
train { output: "" seed: 18446744073709551615 }
optimizer { zero1: f rule { pattern: "*" factor: 0 } }
)";
  const LoadedConfig config = load(text, "a.textproto", {});
  ASSERT_TRUE(config.errors.empty()) << config.errors.front().to_string();
  RunConfig expected;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &expected));
  EXPECT_EQ(config.run.DebugString(), expected.DebugString());
}

// Whatever is left out of a good file: where Protobuf's parser reads it, we read the same; where it
// complains, so do we.
TEST(Load, AgreesWithProtobufsParserOnDamagedFiles) {
  struct Ignore : google::protobuf::io::ErrorCollector {
    void AddError(int, int, const std::string&) override {}
  } ignore;
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&ignore);
  for (std::size_t length : {1, 2, 7, 40}) {
    for (std::size_t at = 0; at + length <= kGoodConfig.size(); ++at) {
      std::string text = kGoodConfig;
      text.erase(at, length);
      const LoadedConfig config = load(text, "a.textproto", {});
      RunConfig expected;
      if (parser.ParseFromString(text, &expected)) {
        EXPECT_EQ(config.run.DebugString(), expected.DebugString()) << text;
      } else {
        EXPECT_FALSE(config.errors.empty()) << text;
      }
    }
  }
}

TEST(Load, UnknownFieldSuggestsTheNearestName) {
  EXPECT_EQ(errors_of(good_config_with("  d_model: 32", "  d_modle: 32")),
            (Lines{"a.textproto:2:1: model.d_model: missing: expected an integer in [1, 65536]",
                   "a.textproto:4:3: model.d_modle: unknown field; did you mean d_model?"}));
}

TEST(Load, UnknownFieldWithoutANearNameListsAll) {
  EXPECT_EQ(
      errors_of(good_config_with("heads: 4", "heads: 4 wings { left: [1, {a: 2}] }")),
      (Lines{"a.textproto:6:24: model.attention.wings: unknown field; AttentionConfig has "
             "heads, kv_heads, head_dim, rope_theta, qkv_bias, out_bias, qk_norm, qk_norm_scope, "
             "rope_scaling, latent, sliding_window"}));
}

TEST(Load, AllUnknownFieldsAreReported) {
  EXPECT_EQ(errors_of("nam: \"b\"\n" + kGoodConfig + "trian { steps: 3 }\ndevise: CUDA\n").size(),
            3U);
}

TEST(Load, MissingRequiredFieldNamesTheMessageItBelongsTo) {
  EXPECT_EQ(errors_of(good_config_with("d_ff: 16", "")),
            (Lines{"a.textproto:7:3: model.moe.d_ff: missing: expected an integer in "
                   "[1, 1048576]"}));
  EXPECT_EQ(errors_of(""),
            (Lines{"a.textproto: name: missing: expected a string in quotes",
                   "a.textproto: model: missing: expected a block { ... } of ModelConfig"}));
}

TEST(Load, MissingChoice) {
  EXPECT_EQ(errors_of(good_config_with("{ z_loss {} }", "{}")),
            (Lines{"a.textproto:12:5: model.moe.balance[1].kind: missing: expected one of "
                   "switch_aux, z_loss, expert_bias, importance_cv2, load_cv2, device_balance, "
                   "entropy, none"}));
}

TEST(Load, OutOfRange) {
  EXPECT_EQ(errors_of(good_config_with("heads: 4", "heads: 0")),
            (Lines{"a.textproto:6:15: model.attention.heads: 0 is out of range: expected an "
                   "integer in [1, 1024]"}));
  EXPECT_EQ(errors_of(kGoodConfig + "optimizer { beta1: 1 }").size(), 1U);  // [0, 1)
  EXPECT_EQ(errors_of(kGoodConfig + "optimizer { eps: 0 }").size(), 1U);    // (0, 1]
  EXPECT_EQ(errors_of(kGoodConfig + "optimizer { lr: nan }").size(), 1U);
  EXPECT_EQ(errors_of(kGoodConfig + "optimizer { clip_norm: inf }").size(), 1U);  // [0, inf)
  EXPECT_EQ(errors_of(kGoodConfig + "optimizer { clip_norm: 1e300 }").size(), 0U);
  EXPECT_EQ(errors_of(good_config_with("d_ff: 16", "d_ff: 16 pattern { list: [1, -1] }")).size(),
            1U);
}

TEST(Load, WrongTypesAllAtOnce) {
  EXPECT_EQ(errors_of(good_config_with("vocab_size: 257\n  d_model: 32\n  layers: 2",
                                       "vocab_size: \"257\"\n  d_model: 32.5\n  layers: 1e2") +
                      "device: CUDAA\noptimizer { zero1: 2 lr: \"x\" }"),
            (Lines{"a.textproto:3:15: model.vocab_size: expected an integer, found \"257\"",
                   "a.textproto:4:12: model.d_model: expected an integer, found 32.5",
                   "a.textproto:5:11: model.layers: expected an integer, found 1e2",
                   "a.textproto:15:9: device: expected one of CPU, CUDA, found CUDAA; did you mean "
                   "CUDA?",
                   "a.textproto:16:20: optimizer.zero1: expected true or false, found 2",
                   "a.textproto:16:26: optimizer.lr: expected a number, found \"x\""}));
}

TEST(Load, WrittenTwice) {
  EXPECT_EQ(errors_of(good_config_with("  layers: 2", "  layers: 2\n  layers: 3")),
            (Lines{"a.textproto:6:3: model.layers: written twice, first in line 5; one of them "
                   "must go"}));
  EXPECT_EQ(errors_of(kGoodConfig + "train {}\ntrain { steps: 2 }").size(), 1U);
}

TEST(Load, TwoMembersOfAChoice) {
  EXPECT_EQ(errors_of(good_config_with("z_loss {}", "z_loss {} expert_bias {}")),
            (Lines{"a.textproto:12:25: model.moe.balance[1].expert_bias: excludes z_loss, which "
                   "is written too: choose one"}));
}

TEST(Load, ExcludedByAnotherField) {
  EXPECT_EQ(errors_of(good_config_with("d_ff: 16", "d_ff: 16 pattern { list: 1 every: 2 }")),
            (Lines{"a.textproto:9:32: model.moe.pattern.every: excluded by list, which is written "
                   "too: choose one"}));
}

TEST(Load, SyntaxErrorStandsAlone) {
  EXPECT_EQ(errors_of("name: \"x\"\nmodel {\n  layers 3\n}"),
            (Lines{"a.textproto:3:10: model.layers: expected a colon, found 3"}));
  EXPECT_EQ(errors_of("model {\n  layers: }"),
            (Lines{"a.textproto:2:11: model.layers: expected an integer, found }"}));
  EXPECT_EQ(errors_of("model {\n  layers: 3\n"),
            (Lines{"a.textproto:3:1: model: expected a field name or }, found the end"}));
  EXPECT_EQ(errors_of("name: 'x'\n}"), (Lines{"a.textproto:2:1: expected a field name, found }"}));
  EXPECT_EQ(errors_of("model: 3"),
            (Lines{"a.textproto:1:8: model: expected a block { ... } of ModelConfig, found 3"}));
  EXPECT_EQ(errors_of("model { layers: [1] }"),
            (Lines{"a.textproto:1:17: model.layers: expected one value, not a list, found ["}));
  EXPECT_FALSE(errors_of("name: \"x").empty());
  EXPECT_FALSE(errors_of("nome { [ ").empty());
  EXPECT_FALSE(errors_of("nome").empty());
}

TEST(Load, ErrorsAreSortedByPlace) {
  const LoadedConfig config = load("name: 3\nmodel { layers: 0 moo: 1 attention { heads: x } }\n",
                                   "a.textproto", {"train.steps=-1", "train.stops=1"});
  std::pair<int, int> last{0, 0};
  std::size_t of_file = 0;
  for (const ConfigError& error : config.errors) {
    if (error.source == "--set") continue;
    EXPECT_LE(last, std::make_pair(error.line, error.column));
    last = {error.line, error.column};
    ++of_file;
  }
  ASSERT_EQ(config.errors.size(), of_file + 2);
  EXPECT_EQ(config.errors.back().source, "--set");
}

TEST(Load, ChecksRunOnSoundValuesAndErrorsGetTheirPlace) {
  int runs = 0;
  const std::vector<Check> checks{[&runs](const RunConfig& run, const Fail& fail) {
    ++runs;
    if (run.model().d_model() % 3 != 0) fail("model.d_model", "32 is not a multiple of 3");
    fail("model.attention.kv_heads", "absent, so its message is the place");
    fail("train.steps", "no place at all");
  }};
  EXPECT_EQ(errors_of(kGoodConfig, checks),
            (Lines{"a.textproto: train.steps: no place at all",
                   "a.textproto:4:3: model.d_model: 32 is not a multiple of 3",
                   "a.textproto:6:3: model.attention.kv_heads: absent, so its message is the "
                   "place"}));
  EXPECT_EQ(errors_of(kGoodConfig + "trian {}", checks).size(), 4U);  // an unknown name besides
  EXPECT_EQ(runs, 2);
  EXPECT_EQ(errors_of(good_config_with("d_model: 32", "d_model: 0"), checks).size(), 1U);
  EXPECT_EQ(runs, 2);
}

TEST(Load, PresetsAreGood) {
  int presets = 0;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(WITAN_SOURCE_DIR "/configs/presets")) {
    if (entry.path().extension() != ".textproto") continue;
    const LoadedConfig config = load_file(entry.path().string(), {});
    for (const ConfigError& error : config.errors) ADD_FAILURE() << error.to_string();
    ++presets;
  }
  EXPECT_GT(presets, 0);
}

TEST(Load, FileThatIsNotThere) {
  const LoadedConfig config = load_file("no/such/file.textproto", {});
  ASSERT_EQ(config.errors.size(), 1U);
  EXPECT_EQ(config.errors[0].to_string(),
            "no/such/file.textproto: cannot read the config: No such file or directory");
  EXPECT_EQ(load_file(".", {}).errors.at(0).to_string(),
            ".: cannot read the config: it is a folder");
}

TEST(Load, FileThatIsThere) {
  const std::string path = ::testing::TempDir() + "/load_test.textproto";
  std::ofstream(path) << kGoodConfig;
  const LoadedConfig config = load_file(path, {});
  EXPECT_TRUE(config.errors.empty());
  EXPECT_EQ(config.file, path);
  EXPECT_EQ(config.run.name(), "tiny");
  std::remove(path.c_str());
}

}  // namespace
}  // namespace witan::configs
