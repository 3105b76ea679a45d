#include "launch/commands/prepare_command.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/data/data_test_support.h"

namespace witan {
namespace {

class PrepareCommandTest : public test::FolderTest {
 protected:
  // Parses and runs; the exit code.
  int run(std::vector<std::string> arguments) {
    CLI::App app;
    std::function<int()> command;
    register_prepare(app, command);
    std::reverse(arguments.begin(), arguments.end());  // CLI11 takes a vector from its end
    app.parse(arguments);
    return command();
  }
};

TEST_F(PrepareCommandTest, WritesDatasetAndFigures) {
  const auto text = write_file("a.txt", "one\n--\ntwo\n");
  const auto jsonl = write_file("b.jsonl", R"({"body": "three"})");
  EXPECT_EQ(run({"prepare", text, jsonl, "-o", path("d"), "--json-field", "body",
                 "--document-separator", "--", "--threads", "3", "--json", path("r.json")}),
            0);
  EXPECT_EQ(IndexedDataset(path("d")).documents(), 3);
  const auto figures = nlohmann::json::parse(test::content_of(path("r.json")));
  EXPECT_EQ(figures["output"], path("d"));
  EXPECT_EQ(figures["files"], 2);
  EXPECT_EQ(figures["documents"], 3);
  EXPECT_EQ(figures["empty_documents"], 0);
  EXPECT_EQ(figures["tokens"], 16);
  EXPECT_EQ(figures["text_bytes"], 13);
  EXPECT_EQ(figures["tokenizer"], "byte");
  EXPECT_EQ(figures["vocab_size"], 257);
  EXPECT_EQ(figures["bytes_per_token"], 2);
  EXPECT_EQ(figures["threads"], 3);
  EXPECT_GT(figures["seconds"], 0);
  EXPECT_GT(figures["megabytes_per_second"], 0);
}

TEST_F(PrepareCommandTest, AnEmptySeparatorIsAnEmptyLine) {
  EXPECT_EQ(run({"prepare", write_file("a.txt", "one\n\ntwo\n"), "-o", path("d"),
                 "--document-separator", ""}),
            0);
  EXPECT_EQ(IndexedDataset(path("d")).documents(), 2);
}

TEST_F(PrepareCommandTest, OverwritesOnlyWhenTold) {
  const auto text = write_file("a.txt", "one");
  EXPECT_EQ(run({"prepare", text, "-o", path("d")}), 0);
  EXPECT_CONTAINS(test::user_error([&] {
                    run({"prepare", text, "-o", path("d")});
                  }),
                  "exists already");
  EXPECT_EQ(run({"prepare", text, "-o", path("d"), "--overwrite"}), 0);
}

TEST_F(PrepareCommandTest, InputsAndOutputAreRequired) {
  EXPECT_THROW(run({"prepare", write_file("a.txt", "one")}), CLI::RequiredError);
  EXPECT_THROW(run({"prepare", "-o", path("d")}), CLI::RequiredError);
  const auto text = write_file("a.txt", "one");
  EXPECT_CONTAINS(test::user_error([&] {
                    run({"prepare", text, "-o", path("d"), "--json", path("absent/r.json")});
                  }),
                  "absent/r.json");
}

}  // namespace
}  // namespace witan
